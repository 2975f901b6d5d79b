#include "unit/format/gguf_bytes.h"

namespace hob {
namespace {

constexpr uint32_t kF32 = 0, kQ8_0 = 8;

MalformedCase lost(std::string name, const GgufBytes& file, std::string message) {
  return {std::move(name), file.bytes, Code::kDataLoss, std::move(message)};
}

MalformedCase refused(std::string name, const GgufBytes& file, std::string message) {
  return {std::move(name), file.bytes, Code::kUnimplemented, std::move(message)};
}

GgufBytes raw(std::string bytes) {
  GgufBytes file;
  file.bytes = std::move(bytes);
  return file;
}

// Enough bytes after a claim that only the claim itself is wrong.
GgufBytes padded(GgufBytes file) { return file.data(256); }

std::vector<MalformedCase> header_cases() {
  return {
      lost("empty_file", raw(""), "the file is empty"),
      lost("three_bytes", raw("GGU"), "truncated: magic"),
      lost("bad_magic", raw("GGML....................."), "it starts with \"GGML\""),
      lost("binary_magic", raw(std::string("\x7f\x01\x1b[2J........", 14)), "\\x7f\\x01\\x1b["),
      lost("no_version", raw("GGUF"), "truncated: version"),
      lost("big_endian", GgufBytes(0, 0, 0x03000000), "big-endian"),
      refused("version_0", GgufBytes(0, 0, 0), "expected version 2 or 3, file has 0"),
      refused("version_1", GgufBytes(0, 0, 1), "file has 1"),
      refused("version_4", GgufBytes(0, 0, 4), "file has 4"),
      lost("n_tensors_negative", GgufBytes(-1, 0),
           "expected a tensor count of 0 or more, file has -1"),
      lost("n_kv_negative", GgufBytes(0, -5), "expected a key count of 0 or more, file has -5"),
      lost("n_tensors_max", padded(GgufBytes(INT64_MAX, 0)), "truncated: tensor count needs"),
      lost("n_kv_max", padded(GgufBytes(0, INT64_MAX)), "truncated: key count needs"),
      lost("n_kv_min", padded(GgufBytes(0, INT64_MIN)), "expected a key count of 0 or more"),
      lost("n_kv_one_too_many", GgufBytes(0, 2).key("ab", GgufType::kUint32, 7u).data(14), "key"),
  };
}

std::vector<MalformedCase> key_cases() {
  const auto one = [] { return GgufBytes(0, 1); };
  return {
      lost("key_longer_than_file", padded(one().put(uint64_t{1000})), "truncated: key needs"),
      lost("key_length_max", padded(one().put(UINT64_MAX)), "key: expected at most 65535 bytes"),
      lost("key_of_65536_bytes", padded(one().text(std::string(65536, 'k'))),
           "expected at most 65535 bytes, file has 65536"),
      lost("key_empty", padded(one().text("")), "key is empty"),
      lost("key_not_utf8", padded(one().text("general.\xff\xfe")),
           "key is not text: \"general.\\xff\\xfe\""),
      lost("key_overlong_utf8", padded(one().text("a\xc0\xaf")), "key is not text"),
      lost("key_surrogate_utf8", padded(one().text("a\xed\xa0\x80")), "key is not text"),
      lost("key_with_newline", padded(one().text("a\nb")), "key is not text: \"a\\x0ab\""),
      lost("key_with_nul", padded(one().text(std::string("a\0b", 3))), "key is not text"),
      lost("key_twice",
           padded(GgufBytes(0, 2)
                      .key("k", GgufType::kUint8, uint8_t{1})
                      .key("k", GgufType::kUint8, uint8_t{1})),
           "key k appears twice"),
      lost("value_type_13", padded(one().key("k", GgufType{13}, 0u)),
           "key k: unknown value type 13"),
      lost("value_type_max", padded(one().key("k", GgufType{UINT32_MAX}, 0u)),
           "unknown value type 4294967295"),
      lost("bool_2", padded(one().key("k", GgufType::kBool, uint8_t{2})),
           "key k: expected a bool (0 or 1), file has 2"),
      lost("value_missing", one().text("abcdefgh").put(GgufType::kUint64),
           "truncated: key abcdefgh needs"),
      lost("string_longer_than_file",
           padded(one().text("k").put(GgufType::kString).put(uint64_t{300})),
           "truncated: key k needs 300"),
      lost("string_length_2_61",
           padded(one().text("k").put(GgufType::kString).put(uint64_t{1} << 61)),
           "key k: expected at most"),
      lost("string_length_max", padded(one().text("k").put(GgufType::kString).put(UINT64_MAX)),
           "key k: expected at most"),
  };
}

std::vector<MalformedCase> array_cases() {
  const auto one = [](GgufType element, uint64_t n) {
    return GgufBytes(0, 1).array_key("k", element, n);
  };
  return {
      lost("array_of_arrays", padded(one(GgufType::kArray, 1)),
           "key k: arrays of arrays are not supported"),
      lost("array_of_type_13", padded(one(GgufType{13}, 1)),
           "key k: unknown array element type 13"),
      lost("array_longer_than_file", padded(one(GgufType::kUint32, 65)),
           "truncated: key k needs 65 x 4 bytes"),
      lost("array_n_2_61", padded(one(GgufType::kUint64, uint64_t{1} << 61)),
           "truncated: key k needs 2305843009213693952 x 8"),
      lost("array_n_max", padded(one(GgufType::kUint8, UINT64_MAX)), "truncated: key k needs"),
      lost("array_n_wraps", padded(one(GgufType::kFloat64, (uint64_t{1} << 61) + 1)),
           "truncated: key k needs"),
      lost("string_array_longer_than_file", padded(one(GgufType::kString, 33)),
           "truncated: key k needs 33 x 8 bytes"),
      lost("string_array_bad_element",
           padded(one(GgufType::kString, 2).text("ok").put(uint64_t{5000})),
           "truncated: key k needs 5000"),
      lost("bool_array_3", padded(one(GgufType::kBool, 2).put(uint8_t{1}).put(uint8_t{3})),
           "expected a bool"),
      lost("uint64_array_above_int64", padded(one(GgufType::kUint64, 1).put(UINT64_MAX)),
           "key k: element 18446744073709551615"),
  };
}

std::vector<MalformedCase> alignment_cases() {
  const auto with = [](GgufType type, auto value) {
    return GgufBytes(1, 1).key(kAlignmentKey, type, value).tensor("t", {4}, kF32, 0).pad().data(16);
  };
  const std::string expected =
      "key general.alignment: expected a power of two up to 16777216, file has ";
  return {
      lost("alignment_0", with(GgufType::kUint32, uint32_t{0}), expected + "0"),
      lost("alignment_3", with(GgufType::kUint32, uint32_t{3}), expected + "3"),
      lost("alignment_2_31", with(GgufType::kUint32, uint32_t{1} << 31), expected + "2147483648"),
      lost("alignment_uint64", with(GgufType::kUint64, uint64_t{32}),
           "general.alignment: expected type 4 (uint32), file has type 10"),
      lost("alignment_int32", with(GgufType::kInt32, int32_t{32}),
           "expected type 4 (uint32), file has type 5"),
      lost("alignment_string", GgufBytes(0, 1).string_key(kAlignmentKey, "32"), "file has type 8"),
      lost("alignment_beyond_file", with(GgufType::kUint32, uint32_t{1} << 24),
           "truncated: tensor t needs 16 bytes at byte 16777216"),
  };
}

std::vector<MalformedCase> tensor_cases() {
  const auto one = [](const std::vector<int64_t>& dims, uint32_t type, uint64_t offset = 0) {
    return GgufBytes(1, 0).tensor("blk.0.w", dims, type, offset).pad().data(256);
  };
  const auto named = [](std::string_view name) {
    return GgufBytes(1, 0).tensor(name, {4}, kF32, 0).pad().data(16);
  };
  constexpr int64_t k2_31 = int64_t{1} << 31, k2_32 = int64_t{1} << 32;
  return {
      lost("tensor_name_empty", named(""), "tensor name is empty"),
      lost("tensor_name_64_bytes", named(std::string(64, 'n')),
           "tensor name: expected at most 63 bytes, file has 64"),
      lost("tensor_name_not_utf8", named("w\x80"), "tensor name is not text"),
      lost("n_dims_0", one({}, kF32), "tensor blk.0.w: expected 1 to 4 dimensions, file has 0"),
      lost("n_dims_5", one({1, 1, 1, 1, 1}, kF32), "file has 5"),
      lost("n_dims_max", padded(GgufBytes(1, 0).text("blk.0.w").put(UINT32_MAX)),
           "file has 4294967295"),
      lost("ne_negative", one({-4}, kF32),
           "tensor blk.0.w: expected dimensions of 1 or more, file has -4"),
      lost("ne_zero", one({4, 0}, kF32), "file has 0"),
      lost("ne_two_negative", one({-4, -4}, kF32), "file has -4"),
      lost("ne_product_overflows", one({k2_32, k2_32, 4}, kF32),
           "tensor blk.0.w: too many elements"),
      lost("ne_product_wraps_to_zero", one({k2_32, k2_32}, kF32), "too many elements"),
      lost("size_overflows", one({k2_31, k2_31, 1}, kF32), "overflows"),
      lost("ne_larger_than_file", one({k2_31}, kF32),
           "truncated: tensor blk.0.w needs 8589934592 bytes"),
      lost("ne_not_multiple_of_block", one({33}, kQ8_0),
           "expected rows of a multiple of 32 elements (Q8_0), file has 33"),
      lost("ne_product_but_not_row_multiple", one({16, 2}, kQ8_0),
           "expected rows of a multiple of 32"),
      refused("type_unsupported", one({256}, 16),
              "tensor blk.0.w: expected a supported type, file has IQ2_XXS (id 16)"),
      refused("type_activations", one({256}, 15), "file has Q8_K (id 15)"),
      refused("type_integer", one({4}, 26), "file has I32 (id 26)"),
      refused("type_removed", one({32}, 4), "file has Q4_2 (id 4)"),
      refused("type_unknown", one({32}, 77), "file has type 77 (id 77)"),
      refused("type_internal_2_bits", one({32}, 112), "file has type 112 (id 112)"),
      refused("type_internal_3_bits", one({32}, 113), "file has type 113 (id 113)"),
      refused("type_max", one({32}, UINT32_MAX), "(id 4294967295)"),
      lost("tensor_twice",
           GgufBytes(2, 0).tensor("t", {8}, kF32, 0).tensor("t", {8}, kF32, 32).pad().data(64),
           "tensor t appears twice"),
      lost("offset_unaligned", one({4}, kF32, 7),
           "tensor blk.0.w: expected offset 0 (padded sum of the sizes before it), file has 7"),
      lost("offset_beyond_file", one({4}, kF32, 1 << 20), "expected offset 0"),
      lost("offset_max", one({4}, kF32, UINT64_MAX - 31), "expected offset 0"),
      lost("offsets_overlap",
           GgufBytes(2, 0).tensor("a", {16}, kF32, 0).tensor("b", {8}, kF32, 32).pad().data(128),
           "tensor b: expected offset 64"),
      lost("offsets_with_hole",
           GgufBytes(2, 0).tensor("a", {8}, kF32, 0).tensor("b", {8}, kF32, 64).pad().data(128),
           "tensor b: expected offset 32"),
      lost("offsets_in_other_order",
           GgufBytes(2, 0).tensor("a", {8}, kF32, 32).tensor("b", {8}, kF32, 0).pad().data(128),
           "tensor a: expected offset 0"),
      lost("offset_unpadded_sum",
           GgufBytes(2, 0).tensor("a", {4}, kF32, 0).tensor("b", {8}, kF32, 16).pad().data(128),
           "tensor b: expected offset 32"),
      lost("data_one_byte_short", GgufBytes(1, 0).tensor("t", {8}, kF32, 0).pad().data(31),
           "truncated: tensor t needs 32 bytes"),
      lost("data_absent", GgufBytes(1, 0).tensor("t", {8}, kF32, 0),
           "truncated: tensor t needs 32 bytes"),
  };
}

}  // namespace

std::vector<MalformedCase> malformed_cases() {
  std::vector<MalformedCase> all;
  for (auto cases :
       {header_cases(), key_cases(), array_cases(), alignment_cases(), tensor_cases()}) {
    all.insert(all.end(), cases.begin(), cases.end());
  }
  return all;
}

std::string valid_gguf() {
  GgufBytes file(3, 16);
  file.string_key("general.architecture", "llama").key(kAlignmentKey, GgufType::kUint32, 64u);
  file.key("u8", GgufType::kUint8, uint8_t{200}).key("i8", GgufType::kInt8, int8_t{-100});
  file.key("u16", GgufType::kUint16, uint16_t{60000}).key("i16", GgufType::kInt16, int16_t{-30000});
  file.key("i32", GgufType::kInt32, int32_t{-5}).key("f32", GgufType::kFloat32, 1.5f);
  file.key("bool", GgufType::kBool, uint8_t{1}).key("u64", GgufType::kUint64, UINT64_MAX);
  file.key("i64", GgufType::kInt64, INT64_MIN).key("f64", GgufType::kFloat64, 1e-300);
  file.array_key("tokens", GgufType::kString, 3).text("a").text("").text("\xff not utf-8");
  file.array_key("types", GgufType::kInt32, 2).put(int32_t{-1}).put(int32_t{6});
  file.array_key("scores", GgufType::kFloat32, 2).put(-0.5f).put(2.0f);
  file.array_key("flags", GgufType::kBool, 2).put(uint8_t{0}).put(uint8_t{1});
  file.tensor("a", {2, 3}, kF32, 0)
      .tensor("b", {32, 2, 1}, kQ8_0, 64)
      .tensor("c", {1, 1, 1, 1}, kF32, 192);
  return file.pad(64).data(196).bytes;
}

}  // namespace hob
