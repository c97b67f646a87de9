"""The tiny world's problems, as tests draw them."""

from hypothesis import strategies as st

from train.tiny import tokenizer
from train.tiny.base import BaseSettings

CHARS = tokenizer.tokenizer()


expressions = st.from_regex(r"[0-9]([-+*][0-9]){1,3}", fullmatch=True)


cues = st.sampled_from("+-")


printable = st.text(st.characters(min_codepoint=32, max_codepoint=126))


SMALL = BaseSettings(layers=1, heads=2, kv_heads=1, width=16, mlp_width=32, steps=3, batch_size=4)
