"""Parses XML from outside so that it can neither fetch nor expand anything."""

from lxml import etree

from transfer.system.errors import DataError
from transfer.system.untrusted import is_web_page


def parse(
    content: bytes, where, mend: str = "download it again", encoding: str | None = "utf-8"
) -> etree._Element:
    """The root element of a file. Nothing is fetched, and entities are refused. encoding: None
    trusts the file's own declaration.

    Undeclared prefixes, as in KanjiVG's XML before 2015-06-15 and in SVGs that lost their DTD, stay
    parts of the names. Raises DataError, with `mend` as what to do, if the XML is not well-formed,
    is nested deeper than 256 levels, or declares or uses entities.
    """
    if is_web_page(content):
        raise DataError(f"{where}: is a web page, not the file; {mend}")
    settings = dict(
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
        load_dtd=False,
        remove_comments=True,
        remove_pis=True,
        encoding=encoding,
    )
    parser = etree.XMLParser(**settings)
    try:
        try:
            root = etree.fromstring(content, parser)
        except etree.XMLSyntaxError:
            if wrong := [
                entry for entry in parser.error_log if entry.domain != etree.ErrorDomains.NAMESPACE
            ]:
                raise ValueError(
                    f"{wrong[0].message}, line {wrong[0].line}, column {wrong[0].column}"
                ) from None
            root = etree.fromstring(content, etree.XMLParser(recover=True, **settings))
    except (etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise DataError(f"{where}: not well-formed XML ({one_line(error)}); {mend}") from None
    if root is None:
        raise DataError(f"{where}: not well-formed XML; {mend}")
    declared = root.getroottree().docinfo.internalDTD
    # They are expanded in attributes whatever the parser is told.
    if (
        declared is not None
        and any(declared.iterentities())
        or next(root.iter(etree.Entity), None) is not None
    ):
        raise DataError(f"{where}: declares or uses XML entities; {mend}")
    return root


def one_line(error) -> str:
    """An error's message on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
