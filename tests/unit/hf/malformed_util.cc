#include "unit/hf/malformed_util.h"

#include "unit/hf/checkpoint_util.h"

namespace hob {
namespace {

MalformedSafetensors lost(std::string name, std::string bytes, std::string message) {
  return {std::move(name), std::move(bytes), Code::kDataLoss, std::move(message)};
}

std::string length_only(uint64_t n, size_t n_more) {
  std::string bytes(reinterpret_cast<const char*>(&n), sizeof n);
  return bytes + std::string(n_more, ' ');
}

// One F32 tensor "a" of the fields given, before `n_data` bytes.
std::string one(const std::string& fields, size_t n_data) {
  return with_header("{\"a\":{" + fields + "}}", n_data);
}

std::vector<MalformedSafetensors> header_cases() {
  return {
      lost("empty_file", "", "expected at least 8 bytes, the file has 0"),
      lost("seven_bytes", "1234567", "expected at least 8 bytes, the file has 7"),
      lost("header_length_2_63", length_only(uint64_t{1} << 63, 100),
           "expected a header of at most 100000000 bytes, file has 9223372036854775808"),
      lost("header_length_max", length_only(UINT64_MAX, 100), "expected a header of at most"),
      lost("header_above_limit", length_only(100'000'001, 100), "expected a header of at most"),
      lost("header_longer_than_file", length_only(101, 100),
           "truncated: the header needs 101 bytes, the file has 100"),
      lost("header_length_0", length_only(0, 100), "expected a JSON object as header, it is empty"),
      lost("header_of_spaces", length_only(50, 50), "it is empty"),
      lost("header_not_json", with_header("{\"a\":", 4), "it is none at byte"),
      lost("header_array", with_header("[1,2]", 4), "got a list of 2"),
      lost("header_with_more_after_it", with_header("{} {}", 0), "it is none at byte"),
      lost("header_with_nul", with_header(std::string("{}\0", 3), 0), "a NUL"),
      lost("header_not_utf8", with_header("{\"\xff\":1}", 0), "it is none at byte"),
      lost("depth_bomb", with_header(std::string(5000, '['), 0), "nested more than 4 levels deep"),
      lost("depth_bomb_of_objects", with_header("{\"a\":{\"dtype\":{\"b\":{\"c\":{\"d\":1}}}}}", 0),
           "nested more than 4"),
      lost("duplicate_tensor",
           with_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                       "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
                       2),
           "it has the key \"a\" twice"),
      lost("duplicate_field", one("\"dtype\":\"U8\",\"dtype\":\"F32\"", 4), "\"dtype\" twice"),
      lost("metadata_not_an_object", with_header("{\"__metadata__\":[]}", 0),
           "__metadata__: expected an object"),
      lost("metadata_not_strings", with_header("{\"__metadata__\":{\"a\":1}}", 0),
           "__metadata__: expected strings only, \"a\" is 1"),
  };
}

std::vector<MalformedSafetensors> field_cases() {
  const std::string f32 = "\"dtype\":\"F32\",";
  const auto shape = [&](const std::string& text) {
    return one(f32 + "\"shape\":" + text + ",\"data_offsets\":[0,4]", 4);
  };
  const auto offsets = [&](const std::string& text) {
    return one(f32 + "\"shape\":[1],\"data_offsets\":" + text, 4);
  };
  const std::string end = "\"shape\":[1],\"data_offsets\":[0,4]";
  return {
      lost("tensor_not_an_object", with_header("{\"a\":7}", 0),
           "a: expected an object, file has 7"),
      lost("name_empty", with_header("{\"\":{}}", 0), "expected a tensor name"),
      lost("dtype_missing", one(end + ",\"x\":1", 4), "expected the field dtype, file has none"),
      lost("shape_missing", one(f32 + "\"data_offsets\":[0,4],\"x\":1", 4),
           "expected the field shape"),
      lost("offsets_missing", one(f32 + "\"shape\":[1],\"x\":1", 4),
           "expected the field data_offsets"),
      lost("field_unknown", one(f32 + end + ",\"x\":1", 4), "file has 4 fields"),
      lost("dtype_a_number", one("\"dtype\":4," + end, 4),
           "expected a string as dtype, file has 4"),
      {"dtype_unknown", one("\"dtype\":\"F4\"," + end, 4), Code::kUnimplemented,
       "a: expected a known dtype (F32, F16, BF16, U8 ...), file has \"F4\""},
      lost("shape_a_number", shape("1"), "expected a shape of up to 8 dimensions, file has 1"),
      lost("shape_of_nine", shape("[1,1,1,1,1,1,1,1,1]"), "file has a list of 9"),
      lost("dim_negative", shape("[-1]"), "expected whole numbers of 0 or more in the shape"),
      lost("dim_a_fraction", shape("[1.5]"), "file has 1.5"),
      lost("dim_above_int64", shape("[9223372036854775808]"), "file has 9223372036854775808"),
      lost("dim_a_string", shape("[\"1\"]"), "file has \"1\""),
      lost("shape_product_overflows", shape("[4294967296,4294967296]"), "64 bits overflow"),
      lost("shape_product_wraps_to_zero", shape("[4611686018427387904,4]"), "64 bits overflow"),
      lost("shape_bytes_overflow", shape("[4611686018427387904]"), "64 bits overflow"),
      lost("wrong_dtype_size", shape("[2]"), "expected 8 bytes for F32 [2], data_offsets span 4"),
      lost("offsets_of_three", offsets("[0,4,4]"), "expected two whole numbers of 0 or more"),
      lost("offsets_negative", offsets("[-4,0]"), "expected two whole numbers"),
      lost("offsets_of_fractions", offsets("[0.0,4.0]"), "expected two whole numbers"),
      lost("offsets_backwards", offsets("[4,0]"), "expected data_offsets in order"),
      lost("offsets_beyond_file", offsets("[0,8]"), "within 4 bytes of data, file has 0 to 8"),
      lost("offsets_max", offsets("[18446744073709551611,18446744073709551615]"),
           "within 4 bytes of data"),
      lost("offsets_above_uint64", offsets("[0,18446744073709551616]"),
           "expected two whole numbers"),
  };
}

// Two tensors of 4 bytes.
std::string two(const std::string& a, const std::string& b, size_t n_data) {
  const std::string f32 = "\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":";
  return with_header("{\"a\":{" + f32 + a + "},\"b\":{" + f32 + b + "}}", n_data);
}

std::vector<MalformedSafetensors> layout_cases() {
  return {
      lost("overlap", two("[0,4]", "[2,6]", 6),
           "byte 4, where the tensor before ends, it is at "
           "byte 2: an overlap"),
      lost("same_place", two("[0,4]", "[0,4]", 4), "an overlap"),
      lost("hole", two("[0,4]", "[6,10]", 10), "it is at byte 6: a hole"),
      lost("hole_at_the_start", two("[2,6]", "[6,10]", 10), "expected its data at byte 0"),
      lost("data_after_the_last", two("[0,4]", "[4,8]", 9),
           "expected 9 bytes of data, the tensors end at 8"),
      lost("data_without_tensors", with_header("{}", 1), "expected 1 bytes of data"),
      lost("data_one_byte_short", two("[0,4]", "[4,8]", 7), "within 7 bytes of data"),
  };
}

}  // namespace

std::vector<MalformedSafetensors> malformed_safetensors() {
  std::vector<MalformedSafetensors> all = header_cases();
  for (const auto& more : {field_cases(), layout_cases()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

std::string valid_safetensors() {
  return safetensors_bytes({{"b", "BF16", {2, 3}, std::string(12, 'b')},
                            {"a", "F32", {}, std::string(4, 'a')},
                            {"none", "F16", {0, 4}, ""},
                            {"bytes", "U8", {5}, std::string(5, 'u')}});
}

}  // namespace hob
