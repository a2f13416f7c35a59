"""Which Flink subtask a key lands on, and elements chosen so that every shard gets a subtask of its own.

Beam can't pin a key to a worker, but Flink's choice is a pure function of the encoded key (KeyGroupRangeAssignment):
`group = murmur(ByteBuffer.hashCode(bytes)) % max_parallelism`, `subtask = group * parallelism // max_parallelism`. The
work of a splittable DoFn is keyed by its element alone, whatever its restriction is. So shard readers get elements
"shard:salt", the salt chosen by the shard's subtask: two shards on one subtask would be read one after the other, and a
stuck one would stop its neighbour. On other runners the salt means nothing and does no harm.
"""
import functools
import itertools

MAX_PARALLELISM = 128  # key groups; part of every checkpoint, so the same for all runs of a job
_MASK = 0xFFFFFFFF
_SIGN = 0x80000000


def subtask_of(key: bytes, parallelism: int, max_parallelism: int = MAX_PARALLELISM) -> int:
    """The subtask, 0 to parallelism - 1, that Flink gives a key to, by the key's nested encoding.

    Raises:
      ValueError: parallelism is not within 1 .. max_parallelism, or max_parallelism not within 1 .. 32768.
    """
    if not 1 <= max_parallelism <= 1 << 15:
        raise ValueError(f"max_parallelism: must be within 1 .. 32768, got {max_parallelism}")
    if not 1 <= parallelism <= max_parallelism:
        raise ValueError(f"parallelism: must be within 1 .. max_parallelism = {max_parallelism}, got {parallelism}")
    return _murmur(_buffer_hash(key)) % max_parallelism * parallelism // max_parallelism


def encoded(text: str) -> bytes:
    """A str as Beam nests it in other data: the UTF-8 length as a varint, then the UTF-8."""
    raw = text.encode()
    length, head = len(raw), bytearray()
    while length > 0x7F:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes((*head, length)) + raw


@functools.lru_cache(maxsize=64)
def placed_elements(shards: int, parallelism: int, max_parallelism: int = MAX_PARALLELISM) -> tuple[str, ...]:
    """An element "shard:salt" for each shard; shard i's lands on subtask i % parallelism.

    A salt is the least that does, so the elements are the same in every process.

    Raises:
      ValueError: shards < 1, or what `subtask_of` refuses.
    """
    if shards < 1:
        raise ValueError(f"shards: must be at least 1, got {shards}")
    return tuple(_placed(f"{shard}:", shard, parallelism, max_parallelism) for shard in range(shards))


@functools.lru_cache(maxsize=1 << 16)
def placed_key(name: str, subtask: int, parallelism: int, max_parallelism: int = MAX_PARALLELISM) -> str:
    """The key "name:salt" of least salt that lands on the subtask (taken modulo parallelism).

    Raises:
      ValueError: what `subtask_of` refuses.
    """
    return _placed(f"{name}:", subtask, parallelism, max_parallelism)


def _placed(prefix: str, subtask: int, parallelism: int, max_parallelism: int) -> str:
    for salt in itertools.count():
        element = f"{prefix}{salt}"
        if subtask_of(encoded(element), parallelism, max_parallelism) == subtask % parallelism:
            return element
    raise AssertionError("unreachable: every subtask owns a key group")


def shard_of(element: str) -> int:
    """The shard that a placed element stands for."""
    return int(element.partition(":")[0])


def _buffer_hash(data: bytes) -> int:
    """java.nio.ByteBuffer.hashCode, as an unsigned 32-bit number."""
    code = 1
    for byte in reversed(data):
        code = 31 * code + (byte - 256 if byte > 127 else byte) & _MASK
    return code


def _murmur(code: int) -> int:
    """org.apache.flink.util.MathUtils.murmurHash, of an unsigned 32-bit number."""
    code = _rotated(code * 0xCC9E2D51 & _MASK, 15) * 0x1B873593 & _MASK
    code = _rotated(code, 13) * 5 + 0xE6546B64 & _MASK
    code ^= 4
    code = (code ^ code >> 16) * 0x85EBCA6B & _MASK
    code = (code ^ code >> 13) * 0xC2B2AE35 & _MASK
    code ^= code >> 16
    if code < _SIGN:
        return code
    return 0 if code == _SIGN else (1 << 32) - code


def _rotated(code: int, bits: int) -> int:
    return (code << bits | code >> 32 - bits) & _MASK
