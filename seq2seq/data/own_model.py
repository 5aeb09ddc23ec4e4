"""SentencePiece models that other programs have trained, with their own special ids.

Their messages are read here, as sentencepiece's own reader (sentencepiece_model_pb2) needs at least
the protobuf that made it, which sentencepiece does not ask for.
"""

from collections.abc import Iterator
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from ..config import TokenizerKind
from ..errors import DataError
from ..files import place
from ..stored import content

KINDS = {
    1: TokenizerKind.unigram,
    2: TokenizerKind.bpe,
    3: TokenizerKind.word,
    4: TokenizerKind.char,
}
"""trainer_spec.model_type of sentencepiece_model.proto -> kind."""
PIECES, TRAINER_SPEC, MODEL_TYPE, PIECE_TYPE = 1, 2, 3, 3
"""Field numbers in sentencepiece_model.proto."""
NORMAL = 1
"""The type of a piece of text in sentencepiece_model.proto, and the default."""


def read_model(file: Path) -> tuple[bytes, TokenizerKind]:
    """Return a model file's content and its kind; DataError where it is no SentencePiece model."""
    try:
        model = content(file)
        SentencePieceProcessor().LoadFromSerializedProto(model)
        return model, model_kind(model)
    except FileNotFoundError as error:
        raise DataError(f"{file}: no such file{place(file)}; {EXPECTED}") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); {EXPECTED}") from error
    except (RuntimeError, IndexError, KeyError) as error:
        raise DataError(f"{file}: not a SentencePiece model; {EXPECTED}") from error


EXPECTED = "expected the .model file that SentencePiece's trainer wrote (tokenizer.model)"


def model_kind(model: bytes) -> TokenizerKind:
    """Return the kind that a serialized model says it is; unigram is the default."""
    kind = 1
    for number, value in _fields(model):
        if number == TRAINER_SPEC and isinstance(value, bytes):
            found = dict(_fields(value)).get(MODEL_TYPE, kind)
            kind = found if isinstance(found, int) else kind
    return KINDS[kind]


def normal_pieces(model: bytes) -> list[bool]:
    """Return for each piece of a serialized model whether it is a piece of text.

    The others are special, user-defined, unused, or stand for a byte.
    """
    pieces = (value for number, value in _fields(model) if number == PIECES)
    types = (dict(_fields(p)).get(PIECE_TYPE, NORMAL) for p in pieces if isinstance(p, bytes))
    return [kind == NORMAL for kind in types]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protocol buffer message.

    https://protobuf.dev/programming-guides/encoding/. Numbers of fixed width are given as bytes.
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire_type = key & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(wire_type)
        if length is None:
            length, position = _varint(message, position)
        yield key >> 3, message[position : position + length]
        position += length


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and the position after it."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


class Renumbering:
    """Other ids for the pieces of a model, whose special pieces then have the ids 0 to 3.

    A special piece that the model lacks has the id -1 in it. Text never yields the special pieces
    but <unk>, whatever the model would do.
    """

    def __init__(self, processor: SentencePieceProcessor) -> None:
        p = processor
        special = [p.pad_id(), p.unk_id(), p.bos_id(), p.eos_id()]
        others = [i for i in range(p.vocab_size()) if i not in special]
        self.theirs: list[int] = [*special, *others]
        """By our id: the model's."""
        self.ours = [1] * p.vocab_size()
        """By the model's id: ours, of a piece of text."""
        for ours, theirs in enumerate(others, start=len(special)):
            self.ours[theirs] = ours
        names = " ".join(p.id_to_piece(i) for i in special if i >= 0)
        self.is_needed = special != [0, 1, 2, 3] or bool({0, 2, 3} & set(p.encode(names)))
        """Whether the model's own ids are others, or its text yields them."""
