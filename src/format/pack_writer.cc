#include "format/pack_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/align.h"
#include "base/aligned_buffer.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/size_parse.h"
#include "format/gguf_parse.h"
#include "format/pack_file.h"

namespace hob {
namespace {

std::string partial_path(const std::string& path) { return path + ".partial"; }
std::string journal_path(const std::string& path) { return path + ".partial.journal"; }

struct JournalHeader {
  char magic[8] = {'H', 'O', 'B', 'J', 'R', 'N', 'L', '1'};
  uint64_t plan_hash = 0;
};
// Written in one piece; one that was torn names a wrong hash, and its slab is written again.
struct JournalRecord {
  uint64_t place = 0;  // in slab_order()
  uint64_t hash = 0;
};

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

// Everything that decides the bytes of the finished file, but for the hashes.
uint64_t plan_hash(PackIndex index) {
  for (PackLayer& layer : index.layers)
    for (PackCopy& copy : layer.copies)
      for (PackSlab& slab : copy.slabs) slab.hash = 0;
  const std::string bytes = serialise_pack_index(index);
  return hash64(std::as_bytes(std::span(bytes)));
}

}  // namespace

uint64_t place_slabs(PackIndex& index) {
  uint64_t end = kPackAlign;
  for (PackLayer& layer : index.layers)
    for (PackCopy& copy : layer.copies)
      for (PackSlab& slab : copy.slabs) {
        slab.offset = end;
        end += slab.n_bytes;
      }
  return end;
}

PackWriter::PackWriter(std::string path, PackIndex index)
    : path_(std::move(path)),
      index_(std::move(index)),
      order_(slab_order(index_)),
      first_(index_.layers.size()),
      plan_hash_(plan_hash(index_)),
      file_(partial_path(path_), O_RDWR | O_CREAT | O_NOFOLLOW),
      journal_(journal_path(path_), O_RDWR | O_CREAT | O_NOFOLLOW),
      done_(order_.size()) {
  HOB_CHECK(!order_.empty());
  for (size_t i = order_.size(); i-- > 0;)
    first_[static_cast<size_t>(order_[i].layer)][order_[i].precision] = i;
  // The name may have gone between open and lock: to the finished pack of another process.
  if (!file_.try_lock() || !file_.is_named_path())
    fail(Code::kIo, "[pack] {}: expected to be alone, another process is writing this pack",
         file_.path());
  if (!read_journal()) start_anew();
  file_.try_direct();
}

PackWriter::~PackWriter() = default;

size_t PackWriter::flat(const PackSlabId& id) const {
  return first_[static_cast<size_t>(id.layer)][id.precision] + static_cast<size_t>(id.expert);
}

PackSlab& PackWriter::slab(const PackSlabId& id) {
  return index_.layers[static_cast<size_t>(id.layer)]
      .copies[id.precision]
      .slabs[static_cast<size_t>(id.expert)];
}

uint64_t PackWriter::slabs_end() const {
  const PackSlab& last = slab_of(index_, order_.back());
  return last.offset + last.n_bytes;
}

// False: there is none, or it is of another plan.
bool PackWriter::read_journal() {
  JournalHeader header;
  const JournalHeader expected;
  if (journal_.read_at(0, std::as_writable_bytes(std::span(&header, 1))) < sizeof header ||
      std::memcmp(header.magic, expected.magic, sizeof header.magic) != 0 ||
      header.plan_hash != plan_hash_ || file_.size() < slabs_end())
    return false;
  journal_end_ = sizeof header;
  JournalRecord record;
  while (journal_.read_at(journal_end_, std::as_writable_bytes(std::span(&record, 1))) ==
         sizeof record) {
    journal_end_ += sizeof record;
    if (record.place >= order_.size()) continue;
    slab(order_[record.place]).hash = record.hash;
    done_[record.place] = true;
  }
  for (size_t i = 0; i < order_.size(); i++)
    if (done_[i]) done_bytes_ += slab_of(index_, order_[i]).n_bytes;
  // It may have been interrupted after the prologue and before the new name.
  const PackPrologue none{.magic = {}, .version = 0};
  file_.write_at(0, bytes_of(none));
  return true;
}

// The room for the whole is taken now: a disk that is too small is known before hours of work.
void PackWriter::start_anew() {
  file_.truncate(0);
  journal_.truncate(0);
  const JournalHeader header{.plan_hash = plan_hash_};
  const uint64_t n_bytes = slabs_end() + serialise_pack_index(index_).size();
  try {
    file_.reserve(n_bytes);
    journal_.write_at(0, bytes_of(header));
  } catch (const Error& e) {
    remove_partial(path_);
    fail(e.code(), "[pack] {}: expected room for {} ({} bytes): {}", path_, format_size(n_bytes),
         n_bytes, e.what());
  }
  journal_end_ = sizeof header;
}

void PackWriter::check_resumed(const std::function<void(uint64_t, uint64_t)>& progress) {
  const uint64_t total = done_bytes_;
  uint64_t checked = 0;
  AlignedBuffer buffer;
  for (size_t i = 0; i < order_.size(); i++) {
    if (!done_[i]) continue;
    const PackSlab& s = slab_of(index_, order_[i]);
    if (buffer.size() < s.n_bytes) buffer = AlignedBuffer(s.n_bytes);
    const std::span<std::byte> bytes(buffer.data(), s.n_bytes);
    if (file_.read_at(s.offset, bytes) < s.n_bytes || hash64(bytes) != s.hash) {
      done_[i] = false;
      done_bytes_ -= s.n_bytes;
    }
    checked += s.n_bytes;
    progress(checked, total);
  }
}

bool PackWriter::done(const PackSlabId& id) const {
  const std::lock_guard lock(mutex_);
  return done_[flat(id)];
}

uint64_t PackWriter::done_bytes() const {
  const std::lock_guard lock(mutex_);
  return done_bytes_;
}

void PackWriter::write(const PackSlabId& id, std::span<const std::byte> bytes) {
  PackSlab& s = slab(id);
  HOB_CHECK(bytes.size() == s.n_bytes);
  const uint64_t hash = hash64(bytes);
  try {
    file_.write_at(s.offset, bytes);
    const std::lock_guard lock(mutex_);
    s.hash = hash;
    const JournalRecord record{flat(id), hash};
    journal_.write_at(journal_end_, bytes_of(record));
    journal_end_ += sizeof record;
    HOB_CHECK(!done_[record.place]);
    done_[record.place] = true;
    done_bytes_ += s.n_bytes;
  } catch (const Error& e) {
    if (e.code() != Code::kResourceExhausted) throw;
    fail(
        e.code(),
        "[pack] {}: expected room on the disk: {}; make some and give the same command again to go "
        "on, or remove {}*",
        path_, e.what(), partial_path(path_));
  }
}

void PackWriter::commit() {
  for (size_t i = 0; i < order_.size(); i++) HOB_CHECK(done_[i]);
  file_.drop_direct();  // index and prologue are no whole pages
  const std::string bytes = serialise_pack_index(index_);
  const uint64_t offset = round_up(slabs_end(), kPackAlign);
  const PackPrologue prologue = make_pack_prologue(bytes, offset);
  file_.write_at(offset, std::as_bytes(std::span(bytes)));
  file_.truncate(offset + bytes.size());
  file_.sync();  // everything that the prologue vouches for
  file_.write_at(0, bytes_of(prologue));
  file_.sync();
  if (std::rename(file_.path().c_str(), path_.c_str()) != 0)
    fail(Code::kIo, "[pack] {}: cannot rename {} to it, {}", path_, file_.path(),
         std::strerror(errno));
  ::unlink(journal_.path().c_str());
  sync_folder_of(path_);
}

void PackWriter::remove_partial(const std::string& path) {
  ::unlink(partial_path(path).c_str());
  ::unlink(journal_path(path).c_str());
}

}  // namespace hob
