// Files as the system has them: not readable, not regular, changing, and split.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "format/byte_source.h"
#include "format/gguf.h"
#include "format/gguf_writer.h"
#include "unit/format/gguf_bytes.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

void expect_refused(const std::string& path, Code code, const std::string& message) {
  try {
    open_gguf(path);
    ADD_FAILURE() << path << " was accepted";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), code) << text;
    EXPECT_NE(text.find(message), std::string::npos) << text;
    EXPECT_NE(text.find(std::filesystem::path(path).parent_path().string()), std::string::npos)
        << text;
    EXPECT_EQ(text.find('\n'), std::string::npos);
  }
}

TEST(GgufOpen, ReadsAFile) {
  const TempFolder folder;
  const std::string path = folder.write("m.gguf", valid_gguf());
  const ModelFile file = open_gguf(path);
  EXPECT_EQ(file.files(), std::vector<std::string>{path});
  EXPECT_EQ(file.total_bytes(), valid_gguf().size());
  EXPECT_EQ(file.tensors().size(), 3u);
  ASSERT_NE(file.find("b"), nullptr);
  EXPECT_EQ(file.find("b")->shape, (Shape{1, 2, 32}));
  EXPECT_EQ(file.find("nope"), nullptr);
  std::ifstream data(path, std::ios::binary);
  data.seekg(static_cast<std::streamoff>(file.find("a")->offset));
  EXPECT_EQ(data.get(), 0x11);
}

TEST(GgufOpen, WhatIsNotARegularFile) {
  const TempFolder folder;
  expect_refused(folder.file("absent.gguf"), Code::kNotFound, "No such file");
  expect_refused(folder.write("empty.gguf", ""), Code::kDataLoss, "the file is empty");
  expect_refused(folder.file("empty.gguf") + "/x.gguf", Code::kNotFound, "Not a directory");
  std::filesystem::create_directory(folder.file("folder.gguf"));
  expect_refused(folder.file("folder.gguf"), Code::kInvalidArgument, "it is a directory");
  ASSERT_EQ(mkfifo(folder.file("pipe.gguf").c_str(), 0600), 0);
  expect_refused(folder.file("pipe.gguf"), Code::kInvalidArgument, "it is a pipe");
  std::filesystem::create_symlink(folder.file("loop2.gguf"), folder.file("loop1.gguf"));
  std::filesystem::create_symlink(folder.file("loop1.gguf"), folder.file("loop2.gguf"));
  expect_refused(folder.file("loop1.gguf"), Code::kIo, "Too many levels of symbolic links");
  expect_refused(folder.file(std::string(300, 'x')), Code::kIo, "File name too long");
  expect_refused("/dev/null", Code::kInvalidArgument, "it is a device");
}

TEST(GgufOpen, WithoutPermission) {
  const TempFolder folder;
  const std::string path = folder.write("m.gguf", valid_gguf());
  std::filesystem::permissions(folder.path(), std::filesystem::perms{0755});
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  const uid_t user = geteuid();
  constexpr uid_t kNobody = 65534;  // root may read everything
  ASSERT_TRUE(user != 0 || seteuid(kNobody) == 0);
  expect_refused(path, Code::kIo, "Permission denied");
  ASSERT_TRUE(user != 0 || seteuid(user) == 0);
}

TEST(GgufOpen, ControlCharactersOfAPathAreEscaped) {
  try {
    open_gguf("/nowhere/\x1b[31m\nred.gguf");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/nowhere/\\x1b[31m\\x0ared.gguf"), std::string::npos)
        << error.what();
  }
}

TEST(FileSourceTest, TruncatedAfterOpening) {
  const TempFolder folder;
  const std::string path = folder.write("m.gguf", std::string(1000, 'x'));
  const FileSource source(path);
  std::vector<std::byte> bytes(1000);
  source.read(0, bytes);
  EXPECT_EQ(bytes[999], std::byte{'x'});
  std::filesystem::resize_file(path, 600);
  try {
    source.read(500, std::span(bytes).first(500));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kDataLoss);
    EXPECT_NE(std::string(error.what()).find("expected 1000 bytes, the file now ends at byte 600"),
              std::string::npos);
  }
}

TEST(PrintableTest, KeepsTextAndEscapesTheRest) {
  EXPECT_EQ(printable("blk.0 größe 日本 😀"), "blk.0 größe 日本 😀");
  EXPECT_EQ(printable("a\x7f\xc3\xff\xed\xa0\x80"), "a\\x7f\\xc3\\xff\\xed\\xa0\\x80");
  EXPECT_EQ(printable("\xe6\x97"), "\\xe6\\x97");
  EXPECT_LT(printable(std::string(100000, 'x')).size(), 250u);
}

// --- Split files ---

class Split : public testing::Test {
 protected:
  struct Keys {
    int no = 0, count = 3, n_tensors = 4;
    std::string architecture;
  };

  std::string path(int no, int count = 3) const {
    return folder_.file(fmt::format("m-{:05}-of-{:05}.gguf", no, count));
  }

  void write(const std::string& to, const Keys& keys, const std::vector<std::string>& names) const {
    GgufWriter writer;
    if (!keys.architecture.empty()) writer.set("general.architecture", keys.architecture);
    writer.set("split.no", static_cast<uint16_t>(keys.no));
    writer.set("split.count", static_cast<uint16_t>(keys.count));
    writer.set("split.tensors.count", static_cast<int32_t>(keys.n_tensors));
    for (const std::string& name : names) writer.add(name, DType::kF32, Shape{2, 2});
    writer.write(to, [](const GgufWriter::Tensor& tensor, const GgufWriter::Sink& sink) {
      const std::vector<std::byte> bytes(tensor.n_bytes, std::byte(tensor.name[0]));
      sink(bytes);
    });
  }

  void write_all() const {
    write(path(1), {0, 3, 4, "llama"}, {"a", "b"});
    write(path(2), {1, 3, 4, ""}, {"c"});
    write(path(3), {2, 3, 4, ""}, {"d"});
  }

  TempFolder folder_;
};

TEST_F(Split, OpensFromAnyShard) {
  write_all();
  for (int no = 1; no <= 3; no++) {
    const ModelFile file = open_gguf(path(no));
    EXPECT_EQ(file.files(), (std::vector<std::string>{path(1), path(2), path(3)}));
    EXPECT_EQ(file.metadata().get_string("general.architecture"), "llama");
    ASSERT_EQ(file.tensors().size(), 4u);
    EXPECT_EQ(file.find("b")->file, 0);
    EXPECT_EQ(file.find("c")->file, 1);
    EXPECT_EQ(file.find("d")->file, 2);
    uint64_t total = 0;
    for (const std::string& name : file.files()) total += std::filesystem::file_size(name);
    EXPECT_EQ(file.total_bytes(), total);
    for (const RawTensor& tensor : file.tensors()) {
      std::ifstream data(file.files()[static_cast<size_t>(tensor.file)], std::ios::binary);
      data.seekg(static_cast<std::streamoff>(tensor.offset));
      EXPECT_EQ(data.get(), tensor.name[0]);
    }
  }
}

TEST_F(Split, MissingShard) {
  write_all();
  std::filesystem::remove(path(2));
  expect_refused(path(1), Code::kNotFound, "m-00002-of-00003.gguf: shard 2 of 3 is missing");
  write_all();
  std::filesystem::remove(path(1));
  expect_refused(path(3), Code::kNotFound, "m-00001-of-00003.gguf: shard 1 of 3 is missing");
}

TEST_F(Split, DuplicatedShard) {
  write_all();
  write(path(3), {1, 3, 4, ""}, {"c"});
  expect_refused(path(1), Code::kDataLoss,
                 "m-00003-of-00003.gguf: key split.no: expected 2, file has 1");
  write(path(1), {2, 3, 4, "llama"}, {"a", "b"});
  expect_refused(path(1), Code::kDataLoss,
                 "m-00001-of-00003.gguf: key split.no: expected 0, file has 2");
}

TEST_F(Split, MismatchedShards) {
  write_all();
  write(path(2), {1, 4, 4, ""}, {"c"});
  expect_refused(path(1), Code::kDataLoss, "key split.count: expected 3, file has 4");
  write(path(2), {1, 3, 5, ""}, {"c"});
  expect_refused(path(1), Code::kDataLoss, "key split.tensors.count: expected 4, file has 5");
  write(path(2), {1, 3, 4, "qwen2"}, {"c"});
  expect_refused(path(1), Code::kDataLoss, "expected a shard of a llama model, file has qwen2");
  write(path(2), {1, 3, 4, ""}, {"a"});
  expect_refused(path(1), Code::kDataLoss,
                 "m-00002-of-00003.gguf: tensor a is in an earlier shard too");
  write(path(2), {1, 3, 4, ""}, {"c", "extra"});
  expect_refused(path(1), Code::kDataLoss, "key split.tensors.count: expected 5, file has 4");
  folder_.write("m-00002-of-00003.gguf", valid_gguf());
  expect_refused(path(1), Code::kDataLoss, "key split.count: expected 3, file has 1");
}

TEST_F(Split, NameMustTellTheNumbers) {
  write(folder_.file("renamed.gguf"), {0, 3, 4, "llama"}, {"a"});
  expect_refused(folder_.file("renamed.gguf"), Code::kInvalidArgument,
                 "expected a name ending in -00001-of-00003.gguf");
  write(path(1, 2), {0, 3, 4, "llama"}, {"a"});
  expect_refused(path(1, 2), Code::kInvalidArgument,
                 "expected a name ending in -00001-of-00003.gguf");
  write(path(4), {3, 3, 4, "llama"}, {"a"});
  expect_refused(path(4), Code::kInvalidArgument, "expected a name ending in");
  write(path(0), {0, 3, 4, "llama"}, {"a"});
  expect_refused(path(0), Code::kInvalidArgument, "expected a name ending in");
}

TEST_F(Split, ASplitOfOneNeedsNoSpecialName) {
  write(folder_.file("whole.gguf"), {0, 1, 2, "llama"}, {"a", "b"});
  EXPECT_EQ(open_gguf(folder_.file("whole.gguf")).tensors().size(), 2u);
}

}  // namespace
}  // namespace hob
