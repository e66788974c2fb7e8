// The words that the page and the documents use, in both languages: first those of the page, then those of the models. docs/glossary.md is made of
// them (`python experiments/make_reference.py`). Below `export default` it is plain JSON.
export default [
  {
    "en": {"term": "Kuzushiji", "meaning": "Cursive Japanese, as it was written and printed until about 1900."},
    "ja": {"term": "くずし字", "meaning": "1900 年ごろまで書かれ、刷られていた、くずした書体の文字。"}
  },
  {
    "en": {"term": "candidate", "meaning": "A kanji that the picture may show, with the probability that it is the right one."},
    "ja": {"term": "候補", "meaning": "画像の字かもしれない漢字。正解である確率が付く。"}
  },
  {
    "en": {"term": "verdict", "meaning": "What is said of a reading: fairly sure, not sure, kana, or not a kanji."},
    "ja": {"term": "判定", "meaning": "読みについての判断。「ほぼ確か」「不確か」「仮名」「漢字ではない」のどれか。"}
  },
  {
    "en": {"term": "stroke", "meaning": "One line from pen down to pen up."},
    "ja": {"term": "筆画", "meaning": "筆を下ろしてから上げるまでの一画。"}
  },
  {
    "en": {"term": "old hand", "meaning": "A character as someone wrote it long ago. Painted old hands show what the model has learned; they are no historical images."},
    "ja": {"term": "古い書き手", "meaning": "昔の人が書いた字。描かれたものはモデルが学んだ形で、史料の画像ではない。"}
  },
  {
    "en": {"term": "uncertainty", "meaning": "Where plausible readings of a picture differ, pixel by pixel."},
    "ja": {"term": "不確かさ", "meaning": "ありうる読みどうしで形が違う所。画素ごとに示す。"}
  },
  {
    "en": {"term": "temperature", "meaning": "How random a drawing is: low is careful, high is varied."},
    "ja": {"term": "温度", "meaning": "描画のばらつきの大きさ。低いと慎重に、高いとさまざまに書く。"}
  },
  {
    "en": {"term": "seed", "meaning": "The number that decides what is random. The same seed gives the same drawings."},
    "ja": {"term": "シード", "meaning": "乱数のもとになる数。同じシードからは同じ描画ができる。"}
  },
  {
    "en": {"term": "code point", "meaning": "A character's number in Unicode, such as U+795E for 神."},
    "ja": {"term": "コードポイント", "meaning": "文字の Unicode 番号。神は U+795E。"}
  },
  {
    "en": {"term": "old domain, new domain", "meaning": "Images of Kuzushiji; glyphs of modern kanji."},
    "ja": {"term": "旧領域・新領域", "meaning": "くずし字の画像と、現代の漢字の字形。"}
  },
  {
    "en": {"term": "latent, z_old, z_new", "meaning": "The 64 numbers that stand for an image: z_old for a Kuzushiji image, z_new for a modern glyph."},
    "ja": {"term": "潜在変数、z_old、z_new", "meaning": "画像を表す 64 個の数。z_old はくずし字の画像を、z_new は現代の字形を表す。"}
  },
  {
    "en": {"term": "variational autoencoder (VAE)", "meaning": "A network that turns an image into a latent and back."},
    "ja": {"term": "変分オートエンコーダ（VAE）", "meaning": "画像を潜在変数に変え、そこから画像に戻すネットワーク。"}
  },
  {
    "en": {"term": "mixture density network (MDN)", "meaning": "A network that answers with a probability density with several peaks instead of one value. Here it says which z_new fit a z_old."},
    "ja": {"term": "混合密度ネットワーク（MDN）", "meaning": "一つの値ではなく、いくつもの山をもつ確率密度を答えるネットワーク。ここでは z_old に合う z_new の確率を与える。"}
  },
  {
    "en": {"term": "anchored density", "meaning": "The default MDN. Its peaks stand at the stored latents of the gallery, and it only sets their weights."},
    "ja": {"term": "アンカー付き密度", "meaning": "既定の MDN。山の位置はギャラリーの潜在変数に固定され、重みだけを決める。"}
  },
  {
    "en": {"term": "gallery", "meaning": "The 6,432 kanji of KanjiVG that can be an answer."},
    "ja": {"term": "ギャラリー", "meaning": "答えになりうる KanjiVG の漢字 6,432 字。"}
  },
  {
    "en": {"term": "stroke decoder, Sketch-RNN", "meaning": "The network that writes the strokes for a z_new, one after another."},
    "ja": {"term": "筆画デコーダ、Sketch-RNN", "meaning": "z_new から筆画を一画ずつ書くネットワーク。"}
  },
  {
    "en": {"term": "recogniser", "meaning": "The judge of the evaluation. It reads drawings, and has seen modern glyphs only."},
    "ja": {"term": "認識器", "meaning": "評価の審判。現代の字形だけで学習し、描かれた漢字を読む。"}
  },
  {
    "en": {"term": "val, zero-shot", "meaning": "Held-out images of known kanji; images of kanji that no training has seen."},
    "ja": {"term": "検証用（val）・ゼロショット", "meaning": "学習した漢字の未使用画像と、学習していない漢字の画像。"}
  },
  {
    "en": {"term": "calibration", "meaning": "Whether answers with a probability of 80 % are right in 80 % of cases."},
    "ja": {"term": "較正", "meaning": "「80 %」と答えたものが実際に 80 % 正しいかどうか。"}
  }
];
