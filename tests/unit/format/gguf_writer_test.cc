#include "format/gguf_writer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <iterator>

#include "base/error.h"
#include "format/gguf.h"
#include "unit/format/gguf_bytes.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

// Byte i of tensor `name` is name[0] + i.
std::vector<std::byte> pattern(const std::string& name, size_t n_bytes) {
  std::vector<std::byte> bytes(n_bytes);
  for (size_t i = 0; i < n_bytes; i++)
    bytes[i] = static_cast<std::byte>(static_cast<size_t>(name[0]) + i);
  return bytes;
}

void fill(const GgufWriter::Tensor& tensor, const GgufWriter::Sink& sink) {
  const auto bytes = pattern(tensor.name, tensor.n_bytes);
  sink(std::span(bytes).first(1));  // in two pieces
  sink(std::span(bytes).subspan(1));
}

std::string written(const GgufWriter& writer) {
  std::string out;
  writer.write(
      [&](std::span<const std::byte> b) {
        out.append(reinterpret_cast<const char*>(b.data()), b.size());
      },
      fill);
  return out;
}

GgufShard parse(std::string_view bytes) {
  return parse_gguf(MemorySource(std::as_bytes(std::span(bytes))), "written.gguf");
}

GgufWriter sample(uint32_t alignment) {
  GgufWriter writer(alignment);
  writer.set("general.architecture", std::string("llama"));
  writer.set("n", uint32_t{7});
  writer.set("tokens", std::vector<std::string>{"a", "", "\xff"});
  writer.set("scores", std::vector<float>{1.5f, -2.0f});
  writer.set("types", std::vector<int32_t>{1, -3});
  writer.set("flags", std::vector<bool>{true, false});
  writer.set("n", uint32_t{8});  // replaces
  writer.add("w", DType::kQ8_0, Shape{5, 64});
  writer.add("bias", DType::kF32, Shape{3});
  writer.add("experts", DType::kQ4_K, Shape{2, 3, 256});
  return writer;
}

TEST(GgufWriterTest, ReaderGetsBackWhatWasWritten) {
  for (const uint32_t alignment : {1u, 32u, 4096u}) {
    const std::string bytes = written(sample(alignment));
    EXPECT_EQ(bytes.size() % alignment, 0u);
    const GgufShard shard = parse(bytes);
    EXPECT_EQ(shard.metadata.get_uint("n"), 8u);
    EXPECT_EQ(shard.metadata.find_strings("tokens")->at(2), "\xff");
    EXPECT_EQ(*shard.metadata.find_floats("scores"), (std::vector<double>{1.5, -2}));
    EXPECT_EQ(*shard.metadata.find_ints("types"), (std::vector<int64_t>{1, -3}));
    EXPECT_EQ(*shard.metadata.find_ints("flags"), (std::vector<int64_t>{1, 0}));
    ASSERT_EQ(shard.tensors.size(), 3u);
    EXPECT_EQ(shard.tensors[0].shape, (Shape{5, 64}));
    EXPECT_EQ(shard.tensors[2].shape, (Shape{2, 3, 256}));
    EXPECT_EQ(shard.tensors[2].dtype, DType::kQ4_K);
    for (const RawTensor& tensor : shard.tensors) {
      EXPECT_EQ(tensor.offset % alignment, 0u);
      const auto expected = pattern(tensor.name, tensor.n_bytes);
      EXPECT_EQ(std::memcmp(bytes.data() + tensor.offset, expected.data(), expected.size()), 0)
          << tensor.name;
    }
  }
}

TEST(GgufWriterTest, MetadataSurvivesACopy) {
  const GgufShard first = parse(valid_gguf());
  GgufWriter writer;
  writer.set_all(first.metadata);
  const GgufShard second = parse(written(writer));
  EXPECT_EQ(second.metadata.entries().size() + 1,
            first.metadata.entries().size());  // not the alignment
  for (const auto& [key, value] : second.metadata.entries()) {
    if (key == "f64") continue;  // narrowed to f32
    EXPECT_EQ(*first.metadata.find(key), value) << key;
  }
}

TEST(GgufWriterTest, RefusesWhatTheReaderWould) {
  GgufWriter writer;
  writer.add("w", DType::kF32, Shape{1});
  EXPECT_THROW(writer.add("w", DType::kF32, Shape{1}), Error);
  EXPECT_THROW(writer.add("", DType::kF32, Shape{1}), Error);
  EXPECT_THROW(writer.add(std::string(64, 'n'), DType::kF32, Shape{1}), Error);
  EXPECT_THROW(writer.add("q", DType::kQ4_0, Shape{2, 33}), Error);
  EXPECT_THROW(writer.add("i", DType::kQ2_1, Shape{2, 32}), Error);
  EXPECT_THROW(writer.add("z", DType::kF32, Shape{0, 4}), Error);
  EXPECT_THROW(writer.add("s", DType::kF32, Shape{}), Error);
  EXPECT_THROW(writer.set("", true), Error);
  EXPECT_THROW(writer.set(std::string(65536, 'k'), true), Error);
  EXPECT_EQ(writer.tensors().size(), 1u);
}

TEST(GgufWriterTest, FileAppearsWholeOrNotAtAll) {
  const TempFolder folder;
  const std::string path = folder.write("m.gguf", "the old file");
  const auto interrupted = [](const GgufWriter::Tensor&, const GgufWriter::Sink&) {
    fail(Code::kCancelled, "[test] stopped");
  };
  EXPECT_THROW(sample(32).write(path, interrupted), Error);
  std::ifstream old(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(old), {}), "the old file");
  sample(32).write(path, fill);
  EXPECT_EQ(open_gguf(path).tensors().size(), 3u);
  const auto n_files = std::distance(std::filesystem::directory_iterator(folder.path()), {});
  EXPECT_EQ(n_files, 1);  // no temporary file is left
}

TEST(GgufWriterTest, ErrorsOfTheSystemNameTheFile) {
  const TempFolder folder;
  try {
    sample(32).write(folder.file("absent/m.gguf"), fill);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kIo);
    EXPECT_NE(std::string(error.what()).find("absent/m.gguf"), std::string::npos);
  }
  std::filesystem::create_directory(folder.file("folder.gguf"));
  EXPECT_THROW(sample(32).write(folder.file("folder.gguf"), fill), Error);
}

}  // namespace
}  // namespace hob
