#include "format/gguf_parse.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "unit/format/gguf_bytes.h"

namespace hob {
namespace {

GgufShard parse(std::string_view bytes) {
  return parse_gguf(MemorySource(std::as_bytes(std::span(bytes))), "test.gguf");
}

class Malformed : public testing::TestWithParam<MalformedCase> {};

TEST_P(Malformed, IsRefusedWithOneLineAndWithoutLargeAllocations) {
  const MalformedCase& c = GetParam();
  reset_largest_allocation();
  try {
    parse(c.bytes);
    FAIL() << "accepted";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_LT(largest_allocation(), 300u << 10);
    EXPECT_EQ(error.code(), c.code) << message;
    EXPECT_EQ(message.rfind("[gguf] test.gguf: ", 0), 0u) << message;
    EXPECT_NE(message.find(c.message), std::string::npos) << message;
    const bool one_line =
        std::none_of(message.begin(), message.end(), [](unsigned char ch) { return ch < 0x20; });
    EXPECT_TRUE(one_line && message.size() < 500) << message;
  }
}

INSTANTIATE_TEST_SUITE_P(Gguf, Malformed, testing::ValuesIn(malformed_cases()),
                         [](const auto& param) { return param.param.name; });

TEST(GgufParse, ReadsEveryValueType) {
  const GgufShard shard = parse(valid_gguf());
  const Metadata& m = shard.metadata;
  EXPECT_EQ(m.entries().size(), 16u);
  EXPECT_EQ(m.get_string("general.architecture"), "llama");
  EXPECT_EQ(m.get_uint("u8"), 200u);
  EXPECT_EQ(m.get_float("i8"), -100);
  EXPECT_EQ(m.get_uint("u16"), 60000u);
  EXPECT_EQ(m.get_float("i16"), -30000);
  EXPECT_EQ(m.get_float("i32"), -5);
  EXPECT_EQ(m.get_float("f32"), 1.5);
  EXPECT_EQ(m.find_bool("bool"), true);
  EXPECT_EQ(m.get_uint("u64"), UINT64_MAX);
  EXPECT_EQ(std::get<int64_t>(*m.find("i64")), INT64_MIN);
  EXPECT_EQ(m.get_float("f64"), 1e-300);
  EXPECT_EQ(*m.find_strings("tokens"), (std::vector<std::string>{"a", "", "\xff not utf-8"}));
  EXPECT_EQ(*m.find_ints("types"), (std::vector<int64_t>{-1, 6}));
  EXPECT_EQ(*m.find_floats("scores"), (std::vector<double>{-0.5, 2.0}));
  EXPECT_EQ(*m.find_ints("flags"), (std::vector<int64_t>{0, 1}));
}

TEST(GgufParse, ShapesAreRowMajorAndOffsetsAbsolute) {
  const std::string bytes = valid_gguf();
  const GgufShard shard = parse(bytes);
  ASSERT_EQ(shard.tensors.size(), 3u);
  EXPECT_EQ(shard.n_bytes, bytes.size());
  EXPECT_EQ(shard.tensors[0].shape, (Shape{3, 2}));
  EXPECT_EQ(shard.tensors[1].shape, (Shape{1, 2, 32}));
  EXPECT_EQ(shard.tensors[2].shape, (Shape{1, 1, 1, 1}));
  EXPECT_EQ(shard.tensors[1].dtype, DType::kQ8_0);
  EXPECT_EQ(shard.tensors[0].n_bytes, 24u);
  EXPECT_EQ(shard.tensors[1].n_bytes, 68u);
  const uint64_t start = bytes.size() - 196;
  EXPECT_EQ(shard.tensors[0].offset, start);
  EXPECT_EQ(shard.tensors[1].offset, start + 64);
  EXPECT_EQ(shard.tensors[2].offset, start + 192);
}

TEST(GgufParse, Version2IsTheSame) {
  std::string bytes = valid_gguf();
  bytes[4] = 2;
  EXPECT_EQ(parse(bytes).tensors.size(), 3u);
}

TEST(GgufParse, TruncatedAtEveryByteIsRefused) {
  const std::string bytes = valid_gguf();
  for (size_t n = 0; n < bytes.size(); n++) {
    // A copy of exactly n bytes, so that the sanitizer sees a read beyond them.
    const std::vector<std::byte> cut(reinterpret_cast<const std::byte*>(bytes.data()),
                                     reinterpret_cast<const std::byte*>(bytes.data()) + n);
    try {
      parse_gguf(MemorySource(cut), "cut");
      FAIL() << "accepted the first " << n << " of " << bytes.size() << " bytes";
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kDataLoss) << error.what();
    }
  }
  EXPECT_NO_THROW(parse(bytes));
}

TEST(GgufParse, AnyByteChangedIsAcceptedOrRefusedCleanly) {
  const std::string bytes = valid_gguf();
  size_t n_refused = 0;
  for (size_t i = 0; i < bytes.size(); i++) {
    for (const char value : {'\x00', '\x01', '\x7f', '\x80', '\xff'}) {
      std::string changed = bytes;
      changed[i] = value;
      reset_largest_allocation();
      try {
        parse(changed);
      } catch (const Error&) {
        n_refused++;
      }
      ASSERT_LT(largest_allocation(), 300u << 10) << "byte " << i;
    }
  }
  EXPECT_GT(n_refused, bytes.size());
}

TEST(GgufParse, EmptyContainerAndEmptyArrays) {
  EXPECT_TRUE(parse(GgufBytes(0, 0).bytes).tensors.empty());
  const GgufShard shard = parse(GgufBytes(0, 2)
                                    .array_key("s", GgufType::kString, 0)
                                    .array_key("i", GgufType::kInt8, 0)
                                    .bytes);
  EXPECT_TRUE(shard.metadata.find_strings("s")->empty());
  EXPECT_TRUE(shard.metadata.find_ints("i")->empty());
}

TEST(GgufParse, LongestKeyAndNameAreAccepted) {
  const std::string key(65535, 'k'), name(63, 'n');
  const GgufShard shard = parse(GgufBytes(1, 1)
                                    .key(key, GgufType::kBool, uint8_t{0})
                                    .tensor(name, {1}, 0, 0)
                                    .pad()
                                    .data(4)
                                    .bytes);
  EXPECT_TRUE(shard.metadata.has(key));
  EXPECT_EQ(shard.tensors[0].name, name);
}

TEST(GgufParse, VocabularyLargerThanTheReadBuffer) {
  constexpr uint64_t kTokens = 40000;
  GgufBytes file(0, 1);
  file.array_key("tokens", GgufType::kString, kTokens);
  for (uint64_t i = 0; i < kTokens; i++) file.text("token" + std::to_string(i));
  const GgufShard shard = parse(file.bytes);
  const auto& tokens = *shard.metadata.find_strings("tokens");
  ASSERT_EQ(tokens.size(), kTokens);
  for (uint64_t i = 0; i < kTokens; i++) ASSERT_EQ(tokens[i], "token" + std::to_string(i));
}

// A sparse file: 1 TiB that starts with `head` and goes on with zeros.
class HugeSource : public ByteSource {
 public:
  explicit HugeSource(std::string head) : head_(std::move(head)) {}
  uint64_t size() const override { return uint64_t{1} << 40; }
  void read(uint64_t offset, std::span<std::byte> dst) const override {
    std::fill(dst.begin(), dst.end(), std::byte{0});
    if (offset >= head_.size()) return;
    std::memcpy(dst.data(), head_.data() + offset, std::min(dst.size(), head_.size() - offset));
  }

 private:
  std::string head_;
};

TEST(GgufParse, ClaimsOfASparseFileMeetHobsOwnLimit) {
  const GgufBytes cases[] = {
      GgufBytes(0, 1).array_key("k", GgufType::kUint8, uint64_t{1} << 36),
      GgufBytes(0, 1).array_key("k", GgufType::kString, uint64_t{1} << 30),
      GgufBytes(0, 1).array_key("k", GgufType::kFloat64, uint64_t{1} << 26),
  };
  for (const GgufBytes& file : cases) {
    reset_largest_allocation();
    try {
      parse_gguf(HugeSource(file.bytes), "sparse.gguf");
      FAIL() << "accepted";
    } catch (const Error& error) {
      EXPECT_LE(largest_allocation(), 256u << 20) << error.what();
      EXPECT_NE(std::string(error.what()).find("limit of 256 MiB"), std::string::npos)
          << error.what();
    }
  }
  EXPECT_THROW(parse_gguf(HugeSource(GgufBytes(0, int64_t{1} << 30).bytes), "s"), Error);
  EXPECT_THROW(parse_gguf(HugeSource(GgufBytes(int64_t{1} << 30, 0).bytes), "s"), Error);
  const std::string string_claim =
      GgufBytes(0, 1).text("k").put(GgufType::kString).put(uint64_t{200} << 30).bytes;
  EXPECT_THROW(parse_gguf(HugeSource(string_claim), "s"), Error);
}

// --- The fuzzer's seeds ---

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// With HOB_UPDATE_CORPUS set, writes the seeds instead of comparing them.
TEST(GgufCorpus, HoldsEveryMalformedCase) {
  const std::filesystem::path folder = HOB_TEST_DATA "/gguf/corpus";
  std::vector<MalformedCase> cases = malformed_cases();
  cases.push_back({"valid", valid_gguf(), Code::kInternal, ""});
  for (const MalformedCase& c : cases) {
    if (c.bytes.size() > 8192) continue;  // a fuzzer wants small seeds
    const std::filesystem::path path = folder / c.name;
    if (std::getenv("HOB_UPDATE_CORPUS")) std::ofstream(path, std::ios::binary) << c.bytes;
    EXPECT_EQ(read_all(path), c.bytes) << path;
  }
}

TEST(GgufCorpus, EveryFileIsParsedOrRefusedCleanly) {
  size_t n_files = 0, n_accepted = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HOB_TEST_DATA "/gguf/corpus")) {
    n_files++;
    reset_largest_allocation();
    try {
      parse(read_all(entry.path()));
      n_accepted++;
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).rfind("[gguf] ", 0), 0u) << entry.path();
    }
    EXPECT_LT(largest_allocation(), 300u << 10) << entry.path();
  }
  EXPECT_GE(n_files, 70u);
  EXPECT_GE(n_accepted, 1u);
}

}  // namespace
}  // namespace hob
