#include "hf/safetensors.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "unit/hf/checkpoint_util.h"
#include "unit/hf/malformed_util.h"

namespace hob {
namespace {

std::vector<SafeTensor> parse(std::string_view bytes) {
  return parse_safetensors(MemorySource(std::as_bytes(std::span(bytes))), "test");
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST(Safetensors, GivesTensorsInTheOrderOfTheirBytes) {
  const std::string bytes = valid_safetensors();
  const std::vector<SafeTensor> tensors = parse(bytes);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "b");
  EXPECT_EQ(tensors[0].dtype, SafeType::kBF16);
  EXPECT_EQ(tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(bytes.substr(tensors[0].offset, tensors[0].n_bytes), std::string(12, 'b'));
  EXPECT_EQ(tensors[1].shape_text(), "[]");
  EXPECT_EQ(tensors[1].n_bytes, 4u);
  EXPECT_EQ(tensors[2].n_bytes, 0u);
  EXPECT_EQ(bytes.substr(tensors[3].offset), "uuuuu");
}

TEST(Safetensors, EveryMalformedFileGivesOneClearLine) {
  for (const MalformedSafetensors& c : malformed_safetensors()) try {
      parse(c.bytes);
      ADD_FAILURE() << c.name << " was accepted";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), c.code) << c.name;
      EXPECT_NE(std::string(e.what()).find(c.message), std::string::npos)
          << c.name << ": " << e.what();
      EXPECT_EQ(std::string(e.what()).rfind("[safetensors] test: ", 0), 0u) << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << c.name;
    }
}

TEST(Safetensors, TruncatedAnywhereIsRefused) {
  const std::string bytes = valid_safetensors();
  for (size_t n = 0; n < bytes.size(); n++) EXPECT_THROW(parse(bytes.substr(0, n)), Error) << n;
}

// With HOB_UPDATE_CORPUS set, writes the seeds instead of comparing them.
TEST(SafetensorsCorpus, HoldsEveryMalformedCase) {
  const std::filesystem::path folder = HOB_TEST_DATA "/safetensors/corpus";
  std::vector<MalformedSafetensors> cases = malformed_safetensors();
  cases.push_back({"valid", valid_safetensors(), Code::kInternal, ""});
  for (const MalformedSafetensors& c : cases) {
    if (std::getenv("HOB_UPDATE_CORPUS"))
      std::ofstream(folder / c.name, std::ios::binary) << c.bytes;
    EXPECT_EQ(read_all(folder / c.name), c.bytes) << c.name;
  }
}

TEST(SafetensorsCorpus, EveryFileIsParsedOrRefusedCleanly) {
  size_t n_files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(HOB_TEST_DATA "/safetensors/corpus")) {
    n_files++;
    try {
      parse(read_all(entry.path()));
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).rfind("[safetensors] ", 0), 0u) << entry.path();
    }
  }
  EXPECT_GE(n_files, 45u);
}

TEST(SafetensorsIndex, NamesTheFileOfEachTensor) {
  const auto map = parse_safetensors_index(
      R"({"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})",
      "index");
  EXPECT_EQ(map,
            (std::map<std::string, std::string>{{"a", "1.safetensors"}, {"b", "2.safetensors"}}));
}

TEST(SafetensorsIndex, FileNamesStayInTheFolder) {
  for (const char* name : {"../m.safetensors", "/etc/m.safetensors", "a/b.safetensors",
                           "a\\\\b.safetensors", "", "..", "m.bin"})
    try {
      parse_safetensors_index(fmt::format(R"({{"weight_map":{{"w":"{}"}}}})", name), "index");
      ADD_FAILURE() << name << " was accepted";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("expected the name of a .safetensors file in the same "
                                           "folder"),
                std::string::npos)
          << e.what();
    }
  EXPECT_THROW(parse_safetensors_index(R"({"weight_map":{"w":7}})", "index"), Error);
  EXPECT_THROW(parse_safetensors_index(R"({"weight_map":{}})", "index"), Error);
  EXPECT_THROW(parse_safetensors_index(R"({"weight_map":[]})", "index"), Error);
  EXPECT_THROW(parse_safetensors_index("{}", "index"), Error);
  EXPECT_THROW(parse_safetensors_index(
                   R"({"weight_map":{"w":"a.safetensors","w":"b.safetensors"}})", "index"),
               Error);
}

class SafetensorsShards : public testing::Test {
 protected:
  static StoredTensor small(const std::string& name, char c) {
    return {name, "U8", {3}, std::string(3, c)};
  }
  void write_index(const std::string& weight_map) const {
    folder_.write("model.safetensors.index.json", "{\"weight_map\":" + weight_map + "}");
  }
  std::string error() const {
    try {
      SafetensorsSet::open(folder_.path());
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  }
  void expect_error(const std::string& part) const {
    const std::string text = error();
    EXPECT_NE(text.find(part), std::string::npos) << text;
  }

  TempFolder folder_;
};

TEST_F(SafetensorsShards, AreOneSet) {
  folder_.write("1.safetensors", safetensors_bytes({small("a", 'a'), small("c", 'c')}));
  folder_.write("2.safetensors", safetensors_bytes({small("b", 'b')}));
  write_index(R"({"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"})");
  const SafetensorsSet set = SafetensorsSet::open(folder_.path());
  EXPECT_EQ(set.files().size(), 2u);
  EXPECT_EQ(set.find("absent"), nullptr);
  for (const std::string name : {"a", "b", "c"}) {
    std::string bytes(2, '\0');
    set.read(*set.find(name), 1, std::as_writable_bytes(std::span(bytes)));
    EXPECT_EQ(bytes, name + name);
  }
}

TEST_F(SafetensorsShards, MustBeThere) {
  expect_error("expected model.safetensors or model.safetensors.index.json, there is neither");
  write_index(R"({"a":"1.safetensors"})");
  expect_error("1.safetensors: cannot open");
}

TEST_F(SafetensorsShards, MustHoldWhatTheIndexSays) {
  folder_.write("1.safetensors", safetensors_bytes({small("a", 'a')}));
  folder_.write("2.safetensors", safetensors_bytes({small("b", 'b')}));
  write_index(R"({"a":"2.safetensors","b":"1.safetensors"})");
  expect_error("a: expected in 2.safetensors, it is in 1.safetensors");
  write_index(R"({"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"})");
  expect_error("c: expected in 2.safetensors, it is in none of the files");
  write_index(R"({"a":"1.safetensors"})");
  EXPECT_EQ(error(), "");
  folder_.write("1.safetensors", safetensors_bytes({small("a", 'a'), small("d", 'd')}));
  expect_error("expected every tensor in weight_map, d of 1.safetensors is not");
}

TEST_F(SafetensorsShards, MayNotHoldATensorTwice) {
  folder_.write("1.safetensors", safetensors_bytes({small("a", 'a'), small("b", 'b')}));
  folder_.write("2.safetensors", safetensors_bytes({small("b", 'b')}));
  write_index(R"({"a":"1.safetensors","b":"2.safetensors"})");
  expect_error("b: expected in one file, it is in");
}

}  // namespace
}  // namespace hob
