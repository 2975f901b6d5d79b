#include "format/pack_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "base/error.h"
#include "base/hash.h"
#include "unit/format/pack_bytes.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

PackIndex parse(std::string_view bytes) {
  return parse_pack(MemorySource(std::as_bytes(std::span(bytes))), "test.hobpack");
}

// The error's text; must be one line that begins with the input's name.
std::string refusal(std::string_view bytes, Code code = Code::kDataLoss) {
  try {
    parse(bytes);
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_EQ(e.code(), code) << text;
    EXPECT_EQ(text.rfind("[pack] test.hobpack: ", 0), 0u) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  }
  ADD_FAILURE() << "accepted";
  return {};
}

void expect_refused(std::string_view bytes, const std::string& part, Code code = Code::kDataLoss) {
  const std::string text = refusal(bytes, code);
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

// A valid pack with a changed prologue, whose hash is right again unless `rehash` is off.
std::string with_prologue(const std::function<void(PackPrologue&)>& change, bool rehash = true) {
  std::string bytes = pack_bytes(small_index());
  PackPrologue p;
  std::memcpy(&p, bytes.data(), sizeof p);
  change(p);
  if (rehash)
    p.prologue_hash =
        hash64(std::as_bytes(std::span(&p, 1)).first(offsetof(PackPrologue, prologue_hash)));
  std::memcpy(bytes.data(), &p, sizeof p);
  return bytes;
}

std::string with_index(const std::function<void(PackIndex&)>& change) {
  PackIndex index = small_index();
  const std::string good = pack_bytes(index);
  change(index);
  const std::string body = serialise_pack_index(index);
  const uint64_t end = good.size() - serialise_pack_index(small_index()).size();
  std::string bytes = good.substr(0, end) + body;
  const PackPrologue p = make_pack_prologue(body, end);
  std::memcpy(bytes.data(), &p, sizeof p);
  return bytes;
}

TEST(PackFile, ReadsWhatWasWritten) {
  PackIndex index = small_index();
  index.layers[2].copies[kPackHigh].slabs[1].hash = 0x1234567890abcdef;
  index.set_section("a table", std::string("\0\xff\n", 3));
  const PackIndex back = parse(pack_bytes(index));
  EXPECT_EQ(serialise_pack_index(back), serialise_pack_index(index));
  EXPECT_EQ(back.model.name, "a model");
  EXPECT_EQ(difference(back.model, index.model), "");
  ASSERT_EQ(back.layers.size(), 3u);
  EXPECT_EQ(back.layers[0].n_experts, 0);
  EXPECT_EQ(back.layers[1].copies[kPackLow].parts[kPackHigh], (PackPart{DType::kQ4_0, 32, 64}));
  EXPECT_EQ(back.layers[2].copies[kPackHigh].slabs[1].hash, 0x1234567890abcdefu);
  EXPECT_TRUE(back.layers[2].copies[kPackLow].slabs.empty());
  EXPECT_EQ(back.find_section("a table")->bytes.size(), 3u);
  EXPECT_EQ(back.find_section("options")->bytes, "x=1");
  EXPECT_EQ(back.find_section("none"), nullptr);
}

TEST(PackFile, SlabsFollowOneAnotherOnPages) {
  const PackIndex index = small_index();
  uint64_t end = kPackAlign;
  for (const PackSlabId& id : slab_order(index)) {
    EXPECT_EQ(slab_of(index, id).offset, end) << slab_name(id);
    EXPECT_EQ(end % kPackAlign, 0u);
    end += slab_of(index, id).n_bytes;
  }
  EXPECT_EQ(slab_order(index).size(), 6u);
}

TEST(PackFile, TruncatedAnywhereIsRefused) {
  const std::string bytes = pack_bytes(small_index());
  const uint64_t index_at = bytes.size() - serialise_pack_index(small_index()).size();
  std::vector<size_t> cuts = {0,        1,           8, 12, 63, 64, 4095, 4096, index_at - 1,
                              index_at, index_at + 1};
  for (const PackSlabId& id : slab_order(small_index()))
    cuts.push_back(slab_of(small_index(), id).offset);
  for (size_t n = index_at; n < bytes.size(); n++) cuts.push_back(n);
  for (const size_t n : cuts) expect_refused(bytes.substr(0, n), "truncated");
}

// The container's hash keeps accidents out; the index parser must stand without it.
TEST(PackFile, IndexCutAtEveryByteIsRefused) {
  const std::string body = serialise_pack_index(small_index());
  for (size_t n = 0; n < body.size(); n++)
    EXPECT_THROW(parse_pack_index(std::as_bytes(std::span(body)).first(n), 1 << 20, "x"), Error)
        << n;
  const std::string longer = body + '\0';
  EXPECT_THROW(parse_pack_index(std::as_bytes(std::span(longer)), 1 << 20, "x"), Error);
}

TEST(PackFile, EveryFlippedBitOfPrologueAndIndexIsFound) {
  const std::string good = pack_bytes(small_index());
  const uint64_t index_at = good.size() - serialise_pack_index(small_index()).size();
  for (size_t at = 0; at < good.size(); at++) {
    if (at == sizeof(PackPrologue)) at = index_at;
    std::string bad = good;
    bad[at] = static_cast<char>(bad[at] ^ 0x10);
    EXPECT_THROW(parse(bad), Error) << "byte " << at;
  }
}

TEST(PackFile, FaultsByName) {
  expect_refused(std::string(8192, 'x'), "starts with \"xxxxxxxx\"");
  expect_refused(std::string(8192, '\0'), "interrupted");
  expect_refused(with_prologue([](auto& p) { p.version = 2; }), "a newer hob",
                 Code::kUnimplemented);
  expect_refused(with_prologue([](auto& p) { p.version = 2; }, false), "file has 2",
                 Code::kUnimplemented);
  expect_refused(with_prologue([](auto& p) { p.version = 0; }), "file has 0", Code::kUnimplemented);
  expect_refused(with_prologue([](auto& p) { p.layout[1] = '8'; }), "layout R16/1, file has R86/1",
                 Code::kUnimplemented);
  expect_refused(with_prologue([](auto& p) { std::memset(p.layout, 'A', sizeof p.layout); }),
                 "file has AAAAAAAAAAAAAAAA:", Code::kUnimplemented);
  expect_refused(with_prologue([](auto& p) { p.flags = 4; }), "no flags", Code::kUnimplemented);
  expect_refused(with_prologue([](auto& p) { p.index_offset++; }, false), "header hash");
  expect_refused(with_prologue([](auto& p) { p.index_offset++; }), "on a page of its own");
  expect_refused(with_prologue([](auto& p) { p.index_offset = 0; }), "on a page of its own");
  expect_refused(with_prologue([](auto& p) { p.index_offset = ~uint64_t{4095}; }), "truncated");
  expect_refused(with_prologue([](auto& p) { p.index_bytes = UINT64_MAX; }), "at most");
  expect_refused(with_prologue([](auto& p) { p.index_bytes = 60 << 20; }), "truncated");
  expect_refused(with_prologue([](auto& p) { p.index_bytes--; }), "index hash");
}

TEST(PackFile, SlabsOutsideTheirPlaceAreRefused) {
  const auto slab = [](const std::function<void(PackSlab&)>& change) {
    return with_index([&](PackIndex& i) { change(i.layers[1].copies[kPackLow].slabs[1]); });
  };
  expect_refused(slab([](PackSlab& s) { s.offset += 512; }), "whole pages");
  expect_refused(slab([](PackSlab& s) { s.n_bytes += 1; }), "whole pages");
  expect_refused(slab([](PackSlab& s) { s.n_bytes = 0; }), "at least");
  expect_refused(slab([](PackSlab& s) { s.offset = 0; }), "between bytes");
  expect_refused(slab([](PackSlab& s) { s.offset = uint64_t{1} << 40; }), "between bytes");
  expect_refused(slab([](PackSlab& s) { s.n_bytes = ~uint64_t{4095}; }), "between bytes");
  expect_refused(slab([](PackSlab& s) { s.offset = ~uint64_t{4095}; }), "blk.1 expert 1");
}

TEST(PackFile, ImpossibleMatricesAreRefused) {
  const auto part = [](const std::function<void(PackPart&)>& change) {
    return with_index([&](PackIndex& i) { change(i.layers[1].copies[kPackLow].parts[2]); });
  };
  expect_refused(part([](PackPart& p) { p.rows = 0; }), "dimensions");
  expect_refused(part([](PackPart& p) { p.rows = -1; }), "dimensions");
  expect_refused(part([](PackPart& p) { p.cols = 1 << 25; }), "dimensions");
  expect_refused(part([](PackPart& p) { p.cols = 33; }), "multiple of 32");
  expect_refused(part([](PackPart& p) { p.dtype = static_cast<DType>(200); }), "element type");
  expect_refused(part([](PackPart& p) { p.rows = 1 << 24; }), "at least");
}

TEST(PackFile, SectionsAreReplacedInPlace) {
  const TempFolder folder;
  const std::string path = folder.write("x.hobpack", pack_bytes(small_index()));
  for (int i = 0; i < 3; i++) {
    std::vector<PackSection> sections = PackFile::open(path).index().sections;
    sections.push_back(
        {fmt::format("table {}", i), std::string(10000, static_cast<char>('a' + i))});
    replace_pack_sections(path, sections);
  }
  const PackFile pack = PackFile::open(path);
  ASSERT_EQ(pack.index().sections.size(), 4u);
  EXPECT_EQ(pack.index().find_section("table 2")->bytes, std::string(10000, 'c'));
  PackIndex expected = small_index();
  expected.sections = pack.index().sections;
  EXPECT_EQ(serialise_pack_index(pack.index()), serialise_pack_index(expected));
}

TEST(PackFile, IsRecognisedByItsFirstBytes) {
  const TempFolder folder;
  EXPECT_TRUE(looks_like_pack(folder.write("a", pack_bytes(small_index()))));
  EXPECT_FALSE(looks_like_pack(folder.write("b", "GGUF")));
  EXPECT_FALSE(looks_like_pack(folder.write("c", "")));
  EXPECT_FALSE(looks_like_pack(folder.file("none")));
}

// Seeds of the fuzzer: the first byte chooses container (0) or index (1), see pack_fuzz.cc.
std::vector<std::pair<std::string, std::string>> seeds() {
  PackIndex tiny = small_index();
  const std::string body = serialise_pack_index(tiny);
  return {{"index", "\x01" + body},
          {"index_cut", "\x01" + body.substr(0, body.size() / 2)},
          {"index_longer", "\x01" + body + "more"},
          {"index_empty", "\x01"},
          {"empty", std::string(1, '\0')},
          {"unfinished", std::string(4097, '\0')},
          {"newer",
           std::string(1, '\0') + with_prologue([](auto& p) { p.version = 9; }).substr(0, 4096)},
          {"index_absent", std::string(1, '\0') + pack_bytes(tiny).substr(0, 4096)}};
}

TEST(PackCorpus, HoldsTheseSeeds) {
  const std::filesystem::path folder = HOB_TEST_DATA "/pack/corpus";
  for (const auto& [name, bytes] : seeds()) {
    if (std::getenv("HOB_UPDATE_CORPUS")) std::ofstream(folder / name, std::ios::binary) << bytes;
    std::ifstream in(folder / name, std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes) << name;
  }
}

TEST(PackCorpus, EveryFileIsParsedOrRefusedCleanly) {
  int n_files = 0, n_accepted = 0;
  for (const auto& entry : std::filesystem::directory_iterator(HOB_TEST_DATA "/pack/corpus")) {
    std::ifstream in(entry.path(), std::ios::binary);
    const std::string bytes(std::istreambuf_iterator<char>(in), {});
    const auto data = std::as_bytes(std::span(bytes)).subspan(1);
    n_files++;
    try {
      if (bytes[0] & 1)
        parse_pack_index(data, 1 << 20, "corpus");
      else
        parse_pack(MemorySource(data), "corpus");
      n_accepted++;
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).rfind("[pack] ", 0), 0u) << entry.path();
    }
  }
  EXPECT_GE(n_files, 8);
  EXPECT_GE(n_accepted, 1);
}

}  // namespace
}  // namespace hob
