"""Makes a larger model of a small one: more experts in every layer, copies of those there are."""
import random
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes by GGUF value type
STRING, ARRAY = 8, 9
ALIGN = 32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def string(self):
        n = self.take("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def skip_value(self, kind):
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            inner, n = self.take("IQ")
            for _ in range(n):
                self.skip_value(inner)
        else:
            self.at += SIZES[kind]


def string(text):
    return struct.pack("<Q", len(text)) + text.encode()


def with_experts(data, n_experts):
    """`data`: an F32 GGUF file of a model with experts. The routers' copies differ, so that many are used."""
    r = Reader(data)
    assert r.take("4s") == b"GGUF" and r.take("I") == 3
    n_tensors, n_keys = r.take("QQ")
    keys, before = b"", 0
    for _ in range(n_keys):
        start = r.at
        name, kind = r.string(), r.take("I")
        value_at = r.at
        r.skip_value(kind)
        if name.endswith(".expert_count"):
            before = struct.unpack_from("<I", data, value_at)[0]
            keys += data[start:value_at] + struct.pack("<I", n_experts)
        else:
            keys += data[start:r.at]
    tensors = [(r.string(), [r.take("Q") for _ in range(r.take("I"))], r.take("I"), r.take("Q")) for _ in range(n_tensors)]
    base = -(-r.at // ALIGN) * ALIGN
    noise, infos, body = random.Random(1), b"", bytearray()
    for name, dims, dtype, offset in tensors:
        n = 1
        for d in dims:
            n *= d
        assert dtype == 0, name
        raw = data[base + offset:base + offset + 4 * n]
        if "_exps." in name or "ffn_gate_inp." in name:
            assert dims[-1] == before, name
            raw = raw * (n_experts // before)
            dims = dims[:-1] + [n_experts]
        if "ffn_gate_inp." in name:
            rows = struct.unpack(f"<{len(raw) // 4}f", raw)
            size = (sum(v * v for v in rows) / len(rows)) ** 0.5
            raw = struct.pack(f"<{len(rows)}f", *[v + noise.gauss(0, size / 2) for v in rows])
        infos += string(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
        infos += struct.pack("<IQ", dtype, len(body))
        body += raw + bytes(-len(raw) % ALIGN)
    head = b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_keys) + keys + infos
    return head + bytes(-len(head) % ALIGN) + bytes(body)
