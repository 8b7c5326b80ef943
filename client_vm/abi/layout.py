"""A C struct as the kernel lays it out: named integers (and byte arrays) at offsets.

The layouts themselves are generated (client_vm.abi.generate) into common, x86_64 and arm64.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

_CODES: Final = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}

FieldRow: TypeAlias = tuple[str, int, int, str]
"""Name, offset in bytes, size in bytes, and "u" unsigned, "s" signed, "b" an array of bytes."""


@dataclass(frozen=True, slots=True)
class Field:
    """One member of a struct."""

    name: str
    offset: int
    size: int
    kind: str

    @property
    def code(self) -> str:
        """Its format character for the struct module."""
        if self.kind == "b":
            return f"{self.size}s"
        code = _CODES[self.size, False]
        return code.lower() if self.kind == "s" else code


class Struct:
    """Packs and unpacks one C struct of a little-endian 64-bit Linux.

    `size` is sizeof in bytes, trailing padding included. `codec` is the plain struct.Struct over the fields
    in order of `names`, for hot paths. Bytes that no field covers are written as zero and ignored on reading.
    """

    __slots__ = ("_defaults", "_is_plain", "codec", "fields", "name", "names", "size")

    def __init__(self, name: str, size: int, rows: tuple[FieldRow, ...]) -> None:
        """`rows` in order of offset, without overlap; ValueError otherwise."""
        code, end = "<", 0
        fields = tuple(Field(*row) for row in rows)
        for field in fields:
            if field.offset < end:
                raise ValueError(f"{name}.{field.name} overlaps the field before it")
            code += f"{field.offset - end}x{field.code}"
            end = field.offset + field.size
        if end > size:
            raise ValueError(f"{name} is longer than its {size} bytes")
        self.name: Final = name
        self.size: Final = size
        self.fields: Final[Mapping[str, Field]] = {field.name: field for field in fields}
        self.names: Final = tuple(field.name for field in fields)
        self.codec: Final = struct.Struct(f"{code}{size - end}x")
        self._is_plain: Final = all(field.kind != "b" for field in fields)
        self._defaults: Final[dict[str, int | bytes]] = {f.name: b"" if f.kind == "b" else 0 for f in fields}

    def __repr__(self) -> str:
        return f"<Struct {self.name}, {self.size} bytes>"

    def pack(self, **values: int | bytes) -> bytes:
        """`size` bytes; fields not given are 0. TypeError for an unknown field, struct.error out of range."""
        return self.codec.pack(*self._ordered(values))

    def pack_into(self, buffer: bytearray | memoryview, offset: int = 0, **values: int | bytes) -> None:
        """As pack, into a writable buffer. struct.error if it is too short."""
        self.codec.pack_into(buffer, offset, *self._ordered(values))

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
        """Field name -> int (bytes for arrays). struct.error if fewer than `size` bytes follow offset."""
        return dict(zip(self.names, self.codec.unpack_from(data, offset), strict=True))

    def _ordered(self, values: dict[str, int | bytes]) -> Iterable[int | bytes]:
        if self._is_plain and tuple(values) == self.names:
            return values.values()  # what there is to check, the codec checks
        unknown = values.keys() - self._defaults.keys()
        if unknown:
            raise TypeError(f"struct {self.name} has no field {', '.join(sorted(unknown))}")
        for name, value in values.items():
            if isinstance(value, bytes) and len(value) > self.fields[name].size:
                raise struct.error(f"{self.name}.{name}: {len(value)} bytes in {self.fields[name].size}")
        return [values.get(name, default) for name, default in self._defaults.items()]
