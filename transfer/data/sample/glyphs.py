"""Turns hand-drawn components into the strokes of about 200 real kanji: the glyphs of the built-in
sample corpus.

Everything here was drawn for this project; no coordinate comes from KanjiVG or a font. `COMPONENTS`
holds the drawings, `KANJI` says how to put them together, `glyph` returns the strokes of one kanji
as cubic Béziers in the 109x109 box, and `path` spells one stroke in KanjiVG's path syntax.
"""

import functools
from dataclasses import dataclass

import numpy as np

# One line a component: name, then its strokes in writing order, separated by ";". A stroke is its
# KanjiVG type and points x,y (109x109 box, y down) joined by straight lines, or by an arc where
# "~b" stands between two points: b is the arc's height over its chord's length, positive to the
# right of the direction of travel. A name ending in "-" is the narrow form taken on the left of a
# kanji, in "^" the flat one on top.
COMPONENTS = """
一 ㇐ 11,56 ~-.02 98,53
二 ㇐ 25,33 ~-.02 83,30; ㇐ 11,84 ~-.02 98,81
三 ㇐ 22,24 ~-.02 86,21; ㇐ 28,53 ~-.02 80,50; ㇐ 12,88 ~-.02 97,85
五 ㇐ 18,20 91,17; ㇑ 52,20 38,88; ㇕ 22,52 78,48 74,88; ㇐ 10,92 ~-.02 99,89
八 ㇒ 38,30 ~-.08 10,90; ㇏ 58,20 ~.14 100,90
十 ㇐ 12,50 ~-.02 97,46; ㇑ 54,12 54,98
千 ㇒ 78,12 ~-.04 24,24; ㇐ 11,50 ~-.02 98,46; ㇑ 55,20 55,99
口 ㇑ 22,28 27,88; ㇕ 23,30 85,26 80,84; ㇐ 27,83 81,79
日 ㇑ 30,17 31,94; ㇕ 31,19 79,16 79,93; ㇐ 32,54 78,51; ㇐ 32,89 78,87
月 ㇓ 35,14 35,55 ~-.1 17,97; ㇆ 36,17 79,14 78,94 67,87; ㇐ 36,40 78,37; ㇐ 35,63 78,60
目 ㇑ 30,14 30,97; ㇕ 31,16 79,14 79,95; ㇐ 31,40 78,38; ㇐ 31,64 78,62; ㇐ 31,90 78,88
田 ㇑ 18,22 21,92; ㇕ 19,24 90,20 87,90; ㇑ 54,23 54,86; ㇐ 21,54 88,51; ㇐ 22,88 87,85
甲 ㇑ 20,17 23,63; ㇕ 21,19 88,16 85,61; ㇐ 23,39 86,37; ㇐ 24,61 85,58; ㇑ 54,18 54,100
申 ㇑ 20,28 23,74; ㇕ 21,30 88,27 85,72; ㇐ 23,51 86,48; ㇐ 24,72 85,69; ㇑ 54,10 54,100
由 ㇑ 19,37 22,95; ㇕ 20,39 89,35 86,93; ㇑ 54,11 54,90; ㇐ 22,65 87,62; ㇐ 23,91 86,88
里 ㇑ 23,14 25,57; ㇕ 24,16 85,13 82,55; ㇐ 25,35 83,33; ㇐ 26,54 82,52; ㇑ 54,15 54,90; \
㇐ 21,73 88,70; ㇐ 10,93 ~-.02 99,90
中 ㇑ 20,32 23,72; ㇕ 21,34 88,31 85,69; ㇐ 23,69 86,66; ㇑ 54,11 54,99
虫 ㇑ 22,27 25,63; ㇕ 23,29 86,26 82,60; ㇐ 26,60 83,58; ㇑ 54,10 54,88; ㇀ 14,92 85,84; \
㇔ 76,72 ~-.04 95,97
木 ㇐ 13,38 ~-.02 96,34; ㇑ 54,11 54,99; ㇒ 52,38 ~-.1 11,83; ㇏ 56,38 ~.08 99,79
木- ㇐ 8,36 45,32; ㇑ 29,11 29,99; ㇒ 28,37 ~-.06 7,74; ㇔ 31,46 44,61
本 ㇐ 13,34 ~-.02 96,30; ㇑ 54,11 54,99; ㇒ 52,34 ~-.1 11,80; ㇏ 56,34 ~.08 99,76; ㇐ 36,78 74,76
未 ㇐ 26,31 82,28; ㇐ 12,52 ~-.02 97,48; ㇑ 54,11 54,99; ㇒ 52,51 ~-.08 12,90; ㇏ 56,51 ~.08 98,87
末 ㇐ 12,31 ~-.02 97,27; ㇐ 26,54 83,51; ㇑ 54,11 54,99; ㇒ 52,54 ~-.08 12,91; ㇏ 56,54 ~.08 98,88
禾 ㇒ 76,12 ~-.04 28,24; ㇐ 13,41 ~-.02 96,37; ㇑ 54,20 54,99; ㇒ 52,41 ~-.1 11,84; ㇏ 56,41 ~.08 99,81
禾- ㇒ 40,11 ~-.04 12,20; ㇐ 7,37 46,33; ㇑ 27,18 27,99; ㇒ 26,38 ~-.06 6,73; ㇔ 29,46 44,61
米 ㇔ 26,17 36,36; ㇒ 83,14 71,34; ㇐ 12,49 ~-.02 97,45; ㇑ 54,11 54,99; ㇒ 52,49 ~-.06 13,88; \
㇏ 56,49 ~.06 97,85
米- ㇔ 9,19 15,35; ㇒ 42,16 36,33; ㇐ 6,46 46,42; ㇑ 26,11 26,99; ㇒ 25,47 ~-.05 7,80; ㇔ 28,53 43,70
果 ㇑ 25,14 27,52; ㇕ 26,16 83,13 81,50; ㇐ 27,33 81,31; ㇐ 28,50 80,48; ㇐ 11,65 ~-.02 98,62; \
㇑ 54,15 54,100; \
㇒ 52,65 ~-.06 12,95; ㇏ 56,65 ~.06 98,93
才 ㇐ 13,35 ~-.02 96,32; ㇚ 63,11 63,96 49,86; ㇒ 62,35 ~-.06 13,82
土 ㇐ 24,46 84,43; ㇑ 54,14 54,90; ㇐ 11,92 ~-.02 98,89
土- ㇐ 9,42 42,39; ㇑ 26,14 26,80; ㇀ 6,86 44,74
士 ㇐ 12,42 ~-.02 97,39; ㇑ 54,13 54,88; ㇐ 24,90 84,88
工 ㇐ 22,24 87,21; ㇑ 54,23 54,85; ㇐ 11,88 ~-.02 98,85
王 ㇐ 18,22 91,19; ㇑ 54,22 54,90; ㇐ 24,54 85,51; ㇐ 11,92 ~-.02 98,89
王- ㇐ 9,22 43,20; ㇑ 26,22 26,82; ㇐ 10,51 41,49; ㇀ 6,88 44,77
玉 ㇐ 18,22 91,19; ㇑ 54,22 54,90; ㇐ 24,54 85,51; ㇐ 11,92 ~-.02 98,89; ㇔ 70,65 ~-.04 84,78
主 ㇔ 48,8 59,21; ㇐ 20,33 89,30; ㇑ 54,33 54,91; ㇐ 24,61 85,58; ㇐ 11,93 ~-.02 98,90
生 ㇒ 31,16 ~-.06 12,54; ㇐ 26,36 88,32; ㇑ 54,12 54,90; ㇐ 25,63 85,60; ㇐ 10,93 ~-.02 99,90
人 ㇒ 54,14 ~-.14 10,94; ㇏ 54,42 ~.1 100,93
亻 ㇒ 40,10 ~-.08 8,60; ㇑ 27,38 27,99
彳 ㇒ 36,9 ~-.05 12,34; ㇒ 41,32 ~-.06 7,68; ㇑ 27,52 27,99
𠆢 ㇒ 54,10 ~-.06 8,58; ㇏ 54,11 ~.06 101,55
大 ㇐ 13,41 ~-.02 96,37; ㇒ 54,12 54,38 ~-.12 11,96; ㇏ 55,41 ~.1 99,94
太 ㇐ 13,41 ~-.02 96,37; ㇒ 54,12 54,38 ~-.12 11,96; ㇏ 55,41 ~.1 99,94; ㇔ 43,77 55,95
犬 ㇐ 13,41 ~-.02 96,37; ㇒ 54,12 54,38 ~-.12 11,96; ㇏ 55,41 ~.1 99,94; ㇔ 72,15 86,29
天 ㇐ 20,23 88,20; ㇐ 14,51 ~-.02 95,48; ㇒ 54,23 54,50 ~-.12 11,96; ㇏ 55,52 ~.09 99,95
女 ㇛ 47,11 27,60 ~-.05 82,97; ㇒ 73,37 ~-.14 15,97; ㇐ 11,43 ~-.02 98,39
女- ㇛ 24,12 11,62 ~-.04 42,94; ㇒ 38,38 ~-.12 7,96; ㇀ 5,45 45,38
子 ㇖ 24,22 80,18 ~-.05 53,45; ㇁ 53,45 ~-.08 54,96 40,86; ㇐ 11,58 ~-.02 98,54
儿 ㇒ 38,11 38,45 ~-.12 8,97; ㇟ 68,10 68,80 ~.15 78,93 93,92 ~.1 100,68
匕 ㇒ 86,26 ~-.06 26,50; ㇟ 24,12 24,80 ~.15 35,93 85,92 ~.1 95,70
己 ㇕ 20,22 84,18 82,48; ㇐ 24,50 83,46; ㇟ 22,50 22,82 ~.15 34,93 85,92 ~.1 94,70
弓 ㇕ 24,18 78,15 77,40; ㇐ 27,41 78,38; ㇉ 27,41 22,64 82,60 ~-.03 73,95 57,86
ム ㇜ 47,12 ~-.03 17,85 82,78; ㇔ 70,52 92,97
力 ㇆ 14,37 87,33 ~-.05 75,94 58,84; ㇒ 51,12 50,38 ~-.12 11,97
刀 ㇆ 16,24 86,20 ~-.05 77,94 59,84; ㇒ 50,23 49,38 ~-.12 13,97
刂 ㇑ 12,24 12,72; ㇚ 35,12 35,97 24,88
又 ㇇ 18,24 84,20 ~-.12 12,96; ㇏ 26,36 ~.1 99,95
夂 ㇒ 46,10 ~-.05 16,48; ㇇ 41,26 80,22 ~-.1 11,95; ㇏ 30,42 ~.1 99,94
攵 ㇒ 39,10 ~-.05 12,50; ㇐ 32,33 92,29; ㇒ 77,31 ~-.12 14,98; ㇏ 31,47 ~.1 98,97
欠 ㇒ 36,10 ~-.06 12,48; ㇖ 32,29 91,25 79,43; ㇒ 55,36 53,58 ~-.1 10,98; ㇏ 55,56 ~.1 99,97
夕 ㇒ 48,11 ~-.06 16,54; ㇇ 43,29 83,25 ~-.12 18,98; ㇔ 39,46 58,62
小 ㇚ 54,11 54,96 40,86; ㇒ 31,40 ~-.04 11,78; ㇔ 76,38 ~-.04 97,74
少 ㇚ 54,10 54,58 43,51; ㇒ 32,26 ~-.04 13,54; ㇔ 74,23 95,47; ㇒ 84,46 ~-.1 18,98
水 ㇚ 54,11 54,97 41,87; ㇇ 16,39 44,36 ~-.08 11,83; ㇒ 88,25 ~-.05 60,49; ㇏ 56,42 ~.1 99,88
氵 ㇔ 18,14 ~-.04 35,27; ㇔ 8,42 ~-.04 25,55; ㇀ 10,96 36,62
火 ㇔ 24,35 31,57; ㇒ 84,33 ~-.04 71,55; ㇒ 54,11 54,42 ~-.12 12,98; ㇏ 55,52 ~.1 98,97
火- ㇔ 9,36 14,56; ㇒ 42,32 36,51; ㇒ 26,11 26,48 ~-.1 6,97; ㇔ 28,62 43,82
山 ㇑ 54,14 54,88; ㇄ 19,43 22,90 88,86; ㇑ 88,39 87,96
川 ㇒ 23,17 23,52 ~-.08 11,96; ㇑ 54,20 54,84; ㇑ 87,14 87,98
上 ㇑ 52,14 52,88; ㇐ 53,46 86,43; ㇐ 11,91 ~-.02 98,88
下 ㇐ 12,20 ~-.02 97,17; ㇑ 53,19 53,98; ㇔ 57,40 82,58
止 ㇑ 56,12 56,88; ㇐ 57,47 88,44; ㇑ 27,45 27,89; ㇐ 10,91 ~-.02 99,88
正 ㇐ 17,20 92,17; ㇑ 55,20 55,88; ㇐ 56,52 86,49; ㇑ 29,46 29,89; ㇐ 10,91 ~-.02 99,88
足 ㇑ 29,14 31,42; ㇕ 30,16 79,13 77,40; ㇐ 31,41 78,39; ㇑ 55,42 55,88; ㇐ 56,63 86,60; \
㇒ 33,57 ~-.08 11,98; \
㇏ 28,78 ~.08 99,95
足- ㇑ 11,14 13,42; ㇕ 12,16 41,13 40,40; ㇐ 13,40 40,38; ㇑ 28,41 28,86; ㇐ 29,61 44,59; \
㇑ 12,55 12,88; ㇀ 5,93 46,82
心 ㇔ 22,52 ~-.06 12,80; ㇃ 35,40 ~.12 50,86 ~.02 76,84 78,66; ㇔ 51,26 62,44; ㇔ 80,40 ~-.05 97,66
忄 ㇔ 12,37 8,60; ㇔ 37,33 44,47; ㇑ 26,11 26,99
手 ㇒ 74,13 ~-.04 26,23; ㇐ 22,41 86,38; ㇐ 11,62 ~-.02 98,58; ㇁ 55,19 ~-.05 55,96 41,86
扌 ㇐ 8,34 45,30; ㇚ 28,11 28,96 16,87; ㇀ 6,70 46,55
耳 ㇐ 14,17 95,14; ㇑ 32,17 32,82; ㇐ 33,37 74,35; ㇐ 33,58 74,56; ㇀ 10,84 98,76; ㇑ 75,16 75,99
自 ㇒ 53,8 43,23; ㇑ 29,26 29,98; ㇕ 30,28 80,25 80,97; ㇐ 30,49 79,47; ㇐ 30,70 79,68; ㇐ 30,92 79,90
白 ㇔ 52,9 ~-.03 41,28; ㇑ 27,30 28,97; ㇕ 28,32 82,29 81,95; ㇐ 29,61 81,58; ㇐ 29,92 81,90
言 ㇔ 47,9 62,19; ㇐ 12,31 ~-.02 97,28; ㇐ 30,46 79,43; ㇐ 30,61 79,58; ㇑ 28,74 32,98; \
㇕ 29,76 80,73 76,95; ㇐ 32,95 76,93
音 ㇑ 54,8 54,20; ㇐ 21,25 88,22; ㇔ 35,30 41,43; ㇒ 74,28 66,43; ㇐ 11,48 ~-.02 98,45; \
㇑ 31,58 32,99; ㇕ 32,60 78,57 77,98; ㇐ 33,77 77,75; ㇐ 33,95 77,93
立 ㇑ 54,10 54,26; ㇐ 17,33 92,29; ㇔ 32,43 41,76; ㇒ 77,40 65,82; ㇐ 11,91 ~-.02 98,88
方 ㇑ 54,8 54,24; ㇐ 12,30 ~-.02 97,26; ㇆ 46,52 83,49 ~-.04 73,94 57,85; ㇒ 49,29 47,52 ~-.1 13,97
豆 ㇐ 15,18 94,15; ㇑ 28,32 31,60; ㇕ 29,34 80,31 77,58; ㇐ 31,57 78,55; ㇔ 33,66 41,84; \
㇒ 76,64 67,83; ㇐ 11,93 ~-.02 98,90
糸 ㇜ 50,10 31,31 55,45; ㇜ 73,24 26,60 82,55; ㇔ 69,44 86,63; ㇑ 55,59 55,98; ㇒ 33,70 ~-.04 16,90; \
㇔ 76,69 94,87
糹 ㇜ 25,10 9,29 27,42; ㇜ 39,25 8,61 40,56; ㇔ 35,45 43,60; ㇑ 25,59 25,98; ㇒ 12,70 6,88; ㇔ 37,68 45,83
貝 ㇑ 31,12 31,76; ㇕ 32,14 78,12 78,74; ㇐ 32,33 77,31; ㇐ 32,52 77,50; ㇐ 32,72 77,70; \
㇒ 43,78 ~-.05 16,98; ㇔ 65,78 92,97
頁 ㇐ 14,14 96,11; ㇒ 55,13 44,28; ㇑ 27,29 27,79; ㇕ 28,31 83,28 82,77; ㇐ 28,45 82,43; \
㇐ 28,60 82,58; ㇐ 28,76 82,74; \
㇒ 42,80 ~-.05 15,99; ㇔ 66,80 94,98
金 ㇒ 54,9 ~-.05 9,51; ㇏ 54,10 ~.05 100,47; ㇐ 36,44 73,42; ㇐ 22,61 87,58; ㇑ 54,44 54,90; \
㇔ 28,70 37,84; ㇒ 82,68 72,83; \
㇐ 12,93 ~-.02 97,90
金- ㇒ 27,9 ~-.05 5,45; ㇔ 27,11 47,35; ㇐ 16,41 39,39; ㇐ 8,57 45,54; ㇑ 27,41 27,86; ㇔ 11,65 16,78; \
㇒ 43,62 38,76; \
㇀ 5,94 47,82
車 ㇐ 20,22 89,19; ㇑ 25,35 28,71; ㇕ 26,37 84,34 80,68; ㇐ 27,52 82,50; ㇐ 28,69 81,67; \
㇐ 10,85 ~-.02 99,81; ㇑ 54,10 54,100
隹 ㇒ 39,9 ~-.06 9,54; ㇑ 27,38 27,99; ㇒ 67,9 58,27; ㇐ 28,30 95,27; ㇑ 60,30 60,91; ㇐ 28,50 90,48; \
㇐ 28,70 90,68; \
㇐ 28,93 98,90
青 ㇐ 20,17 89,15; ㇑ 54,9 54,43; ㇐ 25,30 84,28; ㇐ 11,45 ~-.02 98,42; ㇑ 31,56 31,98; \
㇆ 32,58 78,55 78,96 67,89; \
㇐ 32,70 77,68; \
㇐ 32,83 77,81
羊 ㇔ 30,12 41,27; ㇒ 78,10 66,27; ㇐ 18,32 91,29; ㇐ 24,50 85,47; ㇐ 10,70 ~-.02 99,66; ㇑ 55,31 55,100
牛 ㇒ 30,15 ~-.06 12,52; ㇐ 27,35 87,31; ㇐ 10,62 ~-.02 99,58; ㇑ 55,11 55,99
牛- ㇒ 15,15 7,46; ㇐ 13,34 44,30; ㇑ 28,11 28,99; ㇀ 5,73 46,60
石 ㇐ 13,21 ~-.02 96,18; ㇒ 48,21 ~-.08 10,72; ㇑ 36,54 38,96; ㇕ 37,56 87,52 84,95; ㇐ 39,91 84,88
皿 ㇑ 20,28 25,90; ㇕ 21,30 88,26 84,89; ㇑ 42,30 43,88; ㇑ 66,29 65,88; ㇐ 9,93 ~-.02 100,90
罒 ㇑ 15,16 20,44; ㇕ 16,18 94,15 89,43; ㇑ 40,18 41,42; ㇑ 67,17 66,42; ㇐ 20,42 89,40
丁 ㇐ 12,22 ~-.02 97,18; ㇚ 56,21 56,96 40,85
寸 ㇐ 12,36 ~-.02 97,32; ㇚ 68,11 68,96 53,86; ㇔ 28,52 43,70
云 ㇐ 27,22 82,19; ㇐ 10,46 ~-.02 99,43; ㇜ 50,46 19,90 80,84; ㇔ 70,66 92,98
电 ㇑ 20,18 22,66; ㇕ 21,20 84,17 82,64; ㇐ 22,41 83,39; ㇐ 23,63 82,61; \
㇟ 52,8 52,82 ~.15 62,94 90,93 ~.1 99,74
ヨ ㇕ 20,20 86,17 85,94; ㇐ 24,54 84,52; ㇐ 16,92 84,90
⺀ ㇔ 38,10 66,28; ㇔ 28,50 68,80
竹 ㇒ 27,12 ~-.05 9,46; ㇐ 24,33 49,29; ㇑ 36,32 36,94; ㇒ 68,12 ~-.05 53,44; ㇐ 66,32 98,28; \
㇚ 83,30 83,96 71,87
⺮ ㇒ 26,9 ~-.05 9,36; ㇐ 23,22 52,20; ㇔ 34,24 42,35; ㇒ 66,8 ~-.05 51,34; ㇐ 63,21 97,18; ㇔ 75,23 84,34
艹 ㇐ 11,24 ~-.02 98,20; ㇑ 36,10 38,38; ㇑ 73,9 69,37
宀 ㇑ 54,8 54,21; ㇔ 16,24 12,43; ㇖ 16,27 95,23 84,41
雨 ㇐ 17,18 91,15; ㇑ 15,36 17,96; ㇆ 16,38 93,34 92,96 80,87; ㇑ 54,18 54,94; ㇔ 30,50 40,59; \
㇔ 28,70 40,80; \
㇔ 68,48 79,57; ㇔ 67,67 79,77
雨^ ㇐ 22,12 88,10; ㇔ 14,24 9,43; ㇖ 14,26 98,23 88,40; ㇑ 54,12 54,52; ㇔ 29,33 42,37; \
㇔ 28,45 41,50; ㇔ 67,31 80,35; \
㇔ 66,43 80,48
广 ㇑ 56,8 56,21; ㇐ 20,25 ~-.02 98,21; ㇒ 21,26 21,60 ~-.08 8,99
門 ㇑ 15,13 15,98; ㇕ 16,15 46,13 45,46; ㇐ 16,29 45,28; ㇐ 16,44 45,43; ㇑ 63,13 63,46; \
㇆ 64,15 95,12 95,97 83,88; \
㇐ 64,29 94,27; ㇐ 64,44 94,42
囗 ㇑ 15,14 15,98; ㇕ 16,16 94,13 94,97; ㇐ 16,94 93,92
冂 ㇑ 16,16 16,98; ㇆ 17,18 93,15 93,97 80,88
"""

# A kanji's parts: "a|b" side by side, "a/b" one over the other, "a[b" b inside a; a bare name is
# the component alone. "@x0,y0,x1,y1" gives a part its box where the rule of `_METRICS` would place
# it badly.
KANJI = """
一 二 三 五 八 十 千 口 日 月 目 田 甲 申 由 里 中 虫 木 本 未 末 米 果 才 土 士 工 王 玉 主 生 人 大 太 犬 天 女 子 己 弓
力 刀 又 欠 夕 小 少 水 火 山 川 上 下 止 正 足 心 手 耳 自 白 言 音 立 方 豆 糸 貝 頁 金 車 青 羊 牛 石 皿 丁 寸 竹 雨 門
林=木-|木 森=木@28,8,81,50|木-@8,48,50,99|木@54,48,101,99 相=木-|目 村=木-|寸 材=木-|才 格=木-|各
明=日|月 朋=月@10,12,49,98|月@57,12,99,98 昌=日@28,9,81,50/日@20,55,89,99
晶=日@32,8,77,48|日@9,54,48,99|日@61,54,100,99
早=日/十 旦=日@27,12,82,70/一 時=日|寺 暗=日|音 昭=日|召 星=日/生 香=禾/日 百=一@11,14,98,18/白@26,24,83,99
品=口@32,10,78,45|口@9,55,49,97|口@59,55,100,97 吹=口|欠 名=夕/口@36,60,86,99 兄=口/儿 古=十/口 吉=士/口
舌=千/口 召=刀/口 台=ム/口 各=夂@8,8,101,66/口@30,62,80,99 合=𠆢@8,8,101,54/一@33,50,76,52/口@29,62,82,99
同=冂[(一/口) 員=口/貝 加=力|口 如=女-|口 圭=土@20,9,89,50/土@10,54,99,98 寺=土/寸 坊=土-|方
間=門[日 問=門[口 聞=門[耳 閑=門[木
因=囗[大 困=囗[木 国=囗[玉 回=囗[口@34,36,77,74
計=言|十 訪=言|方 詩=言|寺 請=言|青 語=言|(五/口)
江=氵|工 油=氵|由 洋=氵|羊 注=氵|主 清=氵|青 活=氵|舌 治=氵|台 湖=氵|(古|月)
休=亻|木 体=亻|本 信=亻|言 仁=亻|二 位=亻|立 住=亻|主 仙=亻|山 仏=亻|ム 付=亻|寸
化=亻|匕 待=彳|寺
好=女-|子 始=女-|台
思=田/心 恩=因/心 意=音/心 想=相/心 忠=中/心 志=士/心 情=忄|青 性=忄|生
持=扌|寺 招=扌|召 推=扌|隹
男=田/力 町=田|丁 畑=火-|田 分=八/刀 賀=加/貝 買=罒/貝 則=貝|刂
炎=火@22,8,87,50/火@10,50,99,99 灯=火-|丁 秋=禾-|火 和=禾-|口 利=禾-|刂 私=禾-|ム 季=禾/子
特=牛-|寺
順=川|頁 頭=豆|頁 集=隹/木 多=夕@22,8,84,58/夕@32,44,94,100 岩=山/石 泉=白/水 全=𠆢/王 理=王-|里 童=立/里
粉=米-|分 精=米-|青 虹=虫|工 見=目/儿 取=耳|又 歩=止/少 路=足-|各
草=艹/早 苗=艹/田 苦=艹/古 花=艹/化
字=宀/子 安=宀/女 案=安/木 宝=宀/玉 守=宀/寸 客=宀/各
床=广[木 府=广[付
等=⺮/寺 笛=⺮/由 箱=⺮/相 答=⺮/合
雷=雨^/田 雪=雨^/ヨ 雲=雨^/云 電=雨^/电
細=糹|田 紅=糹|工 結=糹|吉 終=糹|(夂/⺀)
針=金-|十 銅=金-|同
"""

# The room a part asks for: width weight, height fraction (side by side), height weight, width
# fraction (stacked).
_METRICS = """
亻 .45 1 1 1; 彳 .5 1 1 1; 氵 .45 1 1 1; 忄 .45 1 1 1; 扌 .6 1 1 1; 木- .65 1 1 1; 禾- .65 1 1 1
米- .7 1 1 1; 火- .65 1 1 1; 糹 .7 1 1 1; 金- .75 1 1 1; 足- .65 .95 1 1; 牛- .62 1 1 1; 土- .6 .8 1 1
王- .62 .85 1 1; 女- .7 .95 1 1; 刂 .42 .95 1 1; 言 .75 .95 1 1; 虫 .7 .8 1 1; 口 .5 .46 .75 .52
日 .55 .76 1 .52; 月 .7 .97 1 .5; 目 .65 .9 1 .52; 田 .75 .66 1 .74; 白 .85 .8 1 .56; 貝 .8 .95 1.5 .66
頁 1.05 .97 1 1; 寸 1 .95 1.1 .9; 十 1 .97 .7 .9; 土 1 .82 .75 .84; 士 1 .7 .72 .8; 工 .7 .62 .6 .8
二 1 .62 .6 .8; 一 1 .1 .05 .92; 立 1 .88 .7 .88; 止 .9 .85 1 .84; 丁 .75 .92 1 1; 火 1 .92 1 1
心 .9 .78 .68 .86; 皿 1 .5 .62 1; 艹 1 1 .38 1; 宀 1 1 .48 .94; ⺮ 1 1 .48 .96; 雨^ 1 1 .74 .98
罒 1 1 .5 .78; 八 1 1 .5 1; 刀 1 .8 .8 .72; 分 1 .95 .9 .98; 相 1 1 1.2 .94; 山 1 .75 .75 .74
川 .7 .92 1 1; 石 .8 .9 1 .84; 車 .85 .95 1.3 .86; 王 1 .88 .85 .86; 禾 1 1 1.1 1; 子 1 .92 1 .84
ム 1 .8 .85 .6; 夕 1 1 1 .72; 中 1 .95 .9 .62; 古 .85 .85 1 .68; 音 1 .98 1.4 .88; 召 1 .86 1 .8
台 1 .86 1 .8; 加 1 1 .8 .9; 因 1 1 1 .66; 明 1 1 1.1 .84; ヨ 1 1 .8 .62; 千 1 1 .95 .96; 𠆢 1 1 .85 1
青 1 .98 1 .9; 羊 1 .98 1 1; 女 1 .95 1 .98; 方 .9 .96 1.1 .92; 正 .85 .82 1 1; 己 .85 .85 1 1
耳 .8 .95 1 1; 豆 .8 .85 1 1; 儿 1 1 .95 .95; 果 1 .98 1.4 .96; 圭 1 .92 1 1; 合 1 .97 1.2 .84
同 .95 .92 1.1 .7; 隹 1 .97 1.2 .8; 由 .95 .95 1.1 .62; 里 .95 .92 1.35 .84; 力 .95 .92 .9 .84
云 1 .88 .9 .86; 电 1 1 1 .84; 早 1 1 1.2 .84; 少 1 .94 .9 .84; 五 1 1 .8 .84; ⺀ 1 1 .6 .4; 夂 1 1 1 1
匕 .9 .92 1 1; 化 1 1 1.2 .9; 旦 1 .84 1 1; 吉 1 .9 1 1; 舌 1 .95 1 1
"""

_FRAME, _GAP = (
    (9.0, 10.0, 100.0, 99.0),
    5.0,
)  # where composed kanji stand in the box, and the space between parts
_INSIDE = {
    "門": (31, 51, 78, 97),
    "囗": (26, 25, 84, 84),
    "冂": (30, 34, 79, 84),
    "广": (29, 31, 99, 98),
}
_CLOSES_LAST = {"囗": 1}  # strokes of an enclosure that are written after its content


@dataclass(frozen=True)
class Stroke:
    """One stroke: KanjiVG's stroke type and (n, 4, 2) float64 cubic Béziers, each starting where
    the last one ended."""

    type: str
    curves: np.ndarray

    def moved(self, scale: np.ndarray, shift: np.ndarray) -> "Stroke":
        """The same stroke with every control point p at p * scale + shift."""
        return Stroke(self.type, self.curves * scale + shift)


@dataclass(frozen=True)
class Group:
    """A kanji or a part of one: its element, its strokes and groups in writing order; part 1, 2 if
    it is split."""

    element: str
    items: tuple
    part: int = 0

    def leaves(self) -> list["Group"]:
        """The groups that hold strokes, in writing order."""
        if isinstance(self.items[0], Stroke):
            return [self]
        return [leaf for item in self.items for leaf in item.leaves()]

    def strokes(self) -> list[Stroke]:
        """All strokes in writing order."""
        return [stroke for leaf in self.leaves() for stroke in leaf.items]

    def moved(self, scale: np.ndarray, shift: np.ndarray) -> "Group":
        """The same group with every control point p at p * scale + shift."""
        return Group(
            self.element, tuple(item.moved(scale, shift) for item in self.items), self.part
        )


def _draw(text: str) -> Stroke:
    """Read one stroke of `COMPONENTS`."""
    kind, *tokens = text.split()
    curves, here, bulge = [], None, 0.0
    for token in tokens:
        if token.startswith("~"):
            bulge = float(token[1:])
            continue
        point = np.array(token.split(","), dtype=np.float64)
        if here is not None:
            chord = point - here
            bow = (
                np.array([-chord[1], chord[0]]) * bulge * 4 / 3
            )  # a cubic's height is 3/4 of its handles' height
            curves.append([here, here + chord / 3 + bow, here + chord * 2 / 3 + bow, point])
        here, bulge = point, 0.0
    return Stroke(kind, np.array(curves))


@functools.cache
def _components() -> dict[str, Group]:
    named = (line.split(maxsplit=1) for line in COMPONENTS.strip().splitlines())
    return {
        name: Group(name[0], tuple(_draw(text) for text in strokes.split(";")))
        for name, strokes in named
    }


@functools.cache
def _recipes() -> dict[str, str]:
    return {word[0]: word[2:] or word for word in KANJI.split()}


@functools.cache
def _metrics() -> dict[str, tuple[float, ...]]:
    rows = (row.split() for row in _METRICS.replace("\n", ";").split(";") if row.strip())
    return {row[0]: tuple(map(float, row[1:])) for row in rows}


def _place(group: Group, box) -> Group:
    """Stretch a group to a box (x0, y0, x1, y1). Along an axis where it is a mere line it is
    centred, not stretched."""
    points = np.concatenate([stroke.curves.reshape(-1, 2) for stroke in group.strokes()])
    low, high = points.min(axis=0), points.max(axis=0)
    start, end = np.array(box[:2], dtype=np.float64), np.array(box[2:], dtype=np.float64)
    flat = high - low < 6
    scale = np.where(flat, 1.0, (end - start) / np.where(flat, 1.0, high - low))
    return group.moved(scale, np.where(flat, (start + end - low - high) / 2, start - low * scale))


def _split(recipe: str, operator: str) -> list[str]:
    """Cut a recipe at an operator that stands outside parentheses."""
    parts, depth = [""], 0
    for character in recipe:
        depth += (character == "(") - (character == ")")
        if character == operator and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _part(text: str) -> tuple[str, Group, tuple[float, ...] | None]:
    """A part of a recipe: its name in the metrics, its strokes, and its box if it has one of its
    own."""
    name, _, box = text.partition("@")
    group = _compose(name[1:-1], "") if name.startswith("(") else _whole(name)
    return name, group, tuple(map(float, box.split(","))) if box else None


def _line(parts: list[str], axis: int) -> tuple[Group, ...]:
    """Place parts side by side (axis 0) or one over the other (axis 1)."""
    read = [_part(text) for text in parts]
    sizes = [_metrics().get(name, (1, 1, 1, 1))[2 * axis : 2 * axis + 2] for name, _, _ in read]
    low, high = np.array(_FRAME[:2]), np.array(_FRAME[2:])
    unit = (high[axis] - low[axis] - _GAP * (len(parts) - 1)) / sum(weight for weight, _ in sizes)
    at, placed = low[axis], []
    for index, ((_, group, box), (weight, across)) in enumerate(zip(read, sizes)):
        start, end = low.copy(), high.copy()
        start[axis], end[axis] = at, at + unit * weight
        inset = (high - low)[1 - axis] * (1 - across) / 2
        sink = (2 if index else -2) * (
            axis == 0 and across < 0.9
        )  # a low part sits high on the left, low on the right
        start[1 - axis] += inset + sink
        end[1 - axis] -= inset - sink
        placed.append(_place(group, box or (*start, *end)))
        at = end[axis] + _GAP
    return tuple(placed)


def _enclose(outer: str, inner: str) -> tuple[Group, ...]:
    """Place a part inside an enclosure, before the strokes that close it."""
    frame, (_, group, box), late = _whole(outer), _part(inner), _CLOSES_LAST.get(outer, 0)
    content = _place(group, box or _INSIDE[outer])
    if not late:
        return frame, content
    first, last = (
        Group(outer, frame.items[:-late], part=1),
        Group(outer, frame.items[-late:], part=2),
    )
    return first, content, last


def _compose(recipe: str, element: str) -> Group:
    for operator, arrange in (
        ("/", lambda parts: _line(parts, 1)),
        ("|", lambda parts: _line(parts, 0)),
    ):
        if len(parts := _split(recipe, operator)) > 1:
            return Group(element, arrange(parts))
    return Group(element, _enclose(*_split(recipe, "[")))


@functools.cache
def _whole(name: str) -> Group:
    return _components()[name] if name in _components() else _compose(_recipes()[name], name)


def characters() -> list[str]:
    """The kanji of the sample corpus, sorted by code point."""
    return sorted(_recipes())


def glyph(character: str) -> Group:
    """The strokes of one of `characters()`, in the 109x109 box and writing order; KeyError for any
    other character."""
    _recipes()[character]
    return _whole(character)


def path(stroke: Stroke) -> str:
    """A stroke in KanjiVG's path syntax: M, then relative cubics, coordinates to two decimals."""
    rounded = np.round(
        stroke.curves, 2
    )  # before the differences, so that errors do not add up along the stroke
    steps = "".join(f"c{_pairs(curve[1:] - curve[0])}" for curve in rounded)
    return f"M{_pairs(rounded[0, :1])}{steps}"


def _pairs(points: np.ndarray) -> str:
    return " ".join(
        f"{x:g},{y:g}" for x, y in np.round(points, 2) + 0.0
    )  # + 0.0 turns -0.0 into 0.0
