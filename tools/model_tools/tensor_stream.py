"""Streams tensors into a GGUF file: declared first, then the header, then one tensor in memory at a time."""
import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType as FileType

FILE_TYPES = {
    "f16": (Type.F16, FileType.MOSTLY_F16),
    "q8_0": (Type.Q8_0, FileType.MOSTLY_Q8_0),
    "q5_0": (Type.Q5_0, FileType.MOSTLY_Q5_0),
}
_PLAIN = {Type.F32: np.float32, Type.F16: np.float16}


class TensorStream:
    """Wraps a gguf.GGUFWriter whose metadata is complete."""

    def __init__(self, writer):
        self._writer, self._expected, self._next = writer, [], 0

    def declare(self, name, shape, dtype):
        shape = tuple(int(n) for n in shape)
        block, size = gguf.GGML_QUANT_SIZES[dtype]
        n_bytes = int(np.prod(shape)) // block * size
        if dtype in _PLAIN:
            self._writer.add_tensor_info(name, shape, np.dtype(_PLAIN[dtype]), n_bytes)
        else:
            raw = shape[:-1] + (shape[-1] // block * size,)
            self._writer.add_tensor_info(name, raw, np.dtype(np.uint8), n_bytes, raw_dtype=dtype)
        self._expected.append((name, dtype))

    def begin(self):
        self._writer.write_header_to_file()
        self._writer.write_kv_data_to_file()
        self._writer.write_ti_data_to_file()

    def write(self, name, values):
        expected, dtype = self._expected[self._next]
        assert name == expected, f"tensor {name} written where {expected} was declared"
        self._next += 1
        if dtype in _PLAIN:
            data = values.astype(_PLAIN[dtype])
        else:
            data = gguf.quants.quantize(values.astype(np.float32, copy=False), dtype)
        self._writer.write_tensor_data(np.ascontiguousarray(data))

    def close(self):
        assert self._next == len(self._expected), f"{len(self._expected) - self._next} tensors were never written"
        self._writer.close()
