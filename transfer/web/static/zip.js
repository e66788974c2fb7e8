// A zip archive of small files, stored as they are: what every unpacker reads, and all that a few SVGs need.

const TABLE = Uint32Array.from({length: 256}, (_, n) => {
  for (let i = 0; i < 8; i++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** files: [[name, text]], names without '..' and at most 65,535 of them. Returns the archive's bytes. Times are 1 January 1980. */
export function zip(files) {
  const text = new TextEncoder(), parts = [], directory = [];
  let at = 0, listed = 0;
  const put = (list, ...fields) => {
    // [value, bytes] little-endian, or bytes as they are.
    const made = fields.map((field) => (field instanceof Uint8Array ? field
      : Uint8Array.from({length: field[1]}, (_, i) => Math.floor(field[0] / 256 ** i) % 256)));
    list.push(...made);
    return made.reduce((sum, bytes) => sum + bytes.length, 0);
  };
  for (const [name, content] of files) {
    const called = text.encode(name), bytes = text.encode(content);
    // Version 2.0, names in UTF-8, stored, no time, 1980-01-01.
    const common = [[20, 2], [0x0800, 2], [0, 2], [0, 2], [0x21, 2], [crc32(bytes), 4], [bytes.length, 4], [bytes.length, 4],
      [called.length, 2], [0, 2]];
    const start = at;
    at += put(parts, [0x04034b50, 4], ...common, called, bytes);
    listed += put(directory, [0x02014b50, 4], [20, 2], ...common, [0, 2], [0, 2], [0, 2], [0, 4], [start, 4], called);
  }
  put(directory, [0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2], [listed, 4], [at, 4], [0, 2]);
  const out = new Uint8Array(parts.concat(directory).reduce((sum, bytes) => sum + bytes.length, 0));
  let filled = 0;
  for (const bytes of [...parts, ...directory]) {
    out.set(bytes, filled);
    filled += bytes.length;
  }
  return out;
}
