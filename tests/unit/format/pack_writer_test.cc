#include "format/pack_writer.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/aligned_buffer.h"
#include "base/error.h"
#include "base/hash.h"
#include "unit/format/pack_bytes.h"
#include "unit/format/temp_folder.h"

namespace hob {
namespace {

namespace fs = std::filesystem;

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

AlignedBuffer slab_bytes(const PackIndex& index, const PackSlabId& id) {
  AlignedBuffer buffer(slab_of(index, id).n_bytes);
  for (size_t i = 0; i < slab_of(index, id).n_bytes; i++)
    buffer.data()[i] = static_cast<std::byte>(i * 7 + slab_of(index, id).offset / 4096);
  return buffer;
}

void ignore(uint64_t, uint64_t) {}

// Writes up to `most` of the slabs that are missing; returns how many.
int write_some(PackWriter& writer, int most) {
  int n = 0;
  for (const PackSlabId& id : slab_order(writer.index())) {
    if (n == most) break;
    if (writer.done(id)) continue;
    const AlignedBuffer bytes = slab_bytes(writer.index(), id);
    writer.write(id, {bytes.data(), slab_of(writer.index(), id).n_bytes});
    n++;
  }
  return n;
}

std::string write_whole(const std::string& path) {
  PackWriter writer(path, small_index());
  EXPECT_EQ(write_some(writer, 100), 6);
  writer.commit();
  return read_file(path);
}

TEST(PackWriter, WritesAFileThatReadsBack) {
  const TempFolder folder;
  const std::string path = folder.file("x.hobpack");
  const std::string bytes = write_whole(path);
  const PackFile pack = PackFile::open(path);
  for (const PackSlabId& id : slab_order(pack.index())) {
    const PackSlab& s = slab_of(pack.index(), id);
    EXPECT_EQ(hash64(std::as_bytes(std::span(bytes)).subspan(s.offset, s.n_bytes)), s.hash);
    const AlignedBuffer expected = slab_bytes(pack.index(), id);
    EXPECT_EQ(std::memcmp(bytes.data() + s.offset, expected.data(), s.n_bytes), 0);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);  // nothing else is left
}

TEST(PackWriter, ResumedAnywhereGivesTheSameBytes) {
  const TempFolder folder;
  const std::string expected = write_whole(folder.file("whole"));
  for (int stop = 0; stop <= 6; stop++) {
    const std::string path = folder.file(fmt::format("stop{}", stop));
    {
      PackWriter writer(path, small_index());
      EXPECT_EQ(write_some(writer, stop), stop);
    }
    EXPECT_FALSE(fs::exists(path));
    EXPECT_THROW(PackFile::open(path + ".partial"), Error);
    PackWriter writer(path, small_index());
    writer.check_resumed(ignore);
    EXPECT_EQ(write_some(writer, 100), 6 - stop);
    writer.commit();
    EXPECT_EQ(read_file(path), expected);
  }
}

TEST(PackWriter, WhatTheJournalClaimsIsChecked) {
  const TempFolder folder;
  const std::string expected = write_whole(folder.file("whole"));
  const std::string path = folder.file("x");
  {
    PackWriter writer(path, small_index());
    write_some(writer, 3);
  }
  {  // a byte of the second slab never reached the disk
    std::fstream partial(path + ".partial", std::ios::in | std::ios::out | std::ios::binary);
    partial.seekp(static_cast<long>(small_index().layers[1].copies[kPackHigh].slabs[1].offset));
    partial.put('\0').put('\1');
  }
  {  // a torn record, and one of nonsense
    std::ofstream journal(path + ".partial.journal", std::ios::app | std::ios::binary);
    journal << std::string(16, '\xff') << "torn";
  }
  uint64_t checked = 0;
  PackWriter writer(path, small_index());
  writer.check_resumed([&](uint64_t done, uint64_t) { checked = done; });
  EXPECT_EQ(checked, 8192u + 8192 + 4096);
  EXPECT_EQ(writer.done_bytes(), 8192u + 4096);
  EXPECT_EQ(write_some(writer, 100), 4);
  writer.commit();
  EXPECT_EQ(read_file(path), expected);
}

TEST(PackWriter, AnotherPlanStartsAnew) {
  const TempFolder folder;
  const std::string path = folder.file("x");
  {
    PackWriter writer(path, small_index());
    write_some(writer, 5);
  }
  PackIndex other = small_index();
  other.model.files[0].experts_hash++;
  {
    PackWriter writer(path, other);
    EXPECT_EQ(writer.done_bytes(), 0u);
    write_some(writer, 2);
  }
  other.set_section("options", "x=2");
  PackWriter writer(path, other);
  EXPECT_EQ(writer.done_bytes(), 0u);
  EXPECT_EQ(write_some(writer, 100), 6);
}

TEST(PackWriter, APartialFileCutShortStartsAnew) {
  const TempFolder folder;
  const std::string path = folder.file("x");
  {
    PackWriter writer(path, small_index());
    write_some(writer, 6);
  }
  fs::resize_file(path + ".partial", 20000);
  PackWriter writer(path, small_index());
  EXPECT_EQ(writer.done_bytes(), 0u);
}

// Killed between the prologue and the new name, then changed: must not pass for finished meanwhile.
TEST(PackWriter, PrologueOfAnInterruptedCommitIsRemoved) {
  const TempFolder folder;
  const std::string path = folder.file("x");
  const std::string whole = write_whole(path);
  {
    PackWriter writer(folder.file("y"), small_index());
    write_some(writer, 6);
  }
  {
    std::fstream partial(folder.file("y.partial"), std::ios::in | std::ios::out | std::ios::binary);
    partial.write(whole.data(), static_cast<std::streamsize>(whole.size()));
  }
  EXPECT_NO_THROW(PackFile::open(folder.file("y.partial")));
  PackWriter writer(folder.file("y"), small_index());
  EXPECT_THROW(PackFile::open(folder.file("y.partial")), Error);
  writer.check_resumed(ignore);
  EXPECT_EQ(write_some(writer, 100), 0);
  writer.commit();
  EXPECT_EQ(read_file(folder.file("y")), whole);
}

TEST(PackWriter, TwoAtOnceAreRefused) {
  const TempFolder folder;
  const std::string path = folder.file("x");
  PackWriter first(path, small_index());
  write_some(first, 3);
  try {
    PackWriter second(path, small_index());
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("another process"), std::string::npos) << e.what();
  }
  write_some(first, 100);
  first.commit();
  EXPECT_NO_THROW(PackFile::open(path));
}

TEST(PackWriter, OldFileStaysUntilTheNewOneIsWhole) {
  const TempFolder folder;
  const std::string path = folder.write("x", "the old one");
  PackWriter writer(path, small_index());
  write_some(writer, 6);
  EXPECT_EQ(read_file(path), "the old one");
  writer.commit();
  EXPECT_NO_THROW(PackFile::open(path));
}

TEST(PackWriter, FolderThatDoesNotExist) {
  const TempFolder folder;
  EXPECT_THROW(PackWriter(folder.file("no/x"), small_index()), Error);
}

}  // namespace
}  // namespace hob
