#pragma once
// Writes a pack so that an interruption costs nothing and nothing unfinished looks like a pack.
//
//   X.hobpack.partial          the file in the making: its first page stays zero until all else is
//                              on disk
//   X.hobpack.partial.journal  which slabs are in it, with their hashes
//
// commit() adds index and prologue, syncs, renames to X.hobpack, syncs the folder. Whatever else
// happens (an error, kill -9, a power cut), both files stay; the same plan opened again goes on
// where it stopped. What the journal says is checked against the bytes before it is believed, since
// nothing ordered them on disk.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/file_io.h"
#include "format/pack_index.h"

namespace hob {

class PackWriter {
 public:
  // `index`: with offsets and sizes of all slabs (place_slabs) and all sections; the hashes come as
  // slabs are written. Continues a partial file whose journal is of the very same plan, else starts
  // anew. Throws Error(kResourceExhausted) when the disk has no room for the whole, and then leaves
  // no new file behind; Error(kIo) when another process is writing it.
  PackWriter(std::string path, PackIndex index);
  // The partial files stay unless commit() succeeded.
  ~PackWriter();
  PackWriter(const PackWriter&) = delete;
  PackWriter& operator=(const PackWriter&) = delete;

  // Re-reads the slabs that the journal names; those whose bytes do not have the hash are not done.
  // progress(bytes checked, bytes to check).
  void check_resumed(const std::function<void(uint64_t, uint64_t)>& progress);

  const PackIndex& index() const { return index_; }
  bool done(const PackSlabId& id) const;
  uint64_t done_bytes() const;
  // Bytes of a slab: whole pages, in memory aligned to kPackAlign. Any thread; each slab once.
  void write(const PackSlabId& id, std::span<const std::byte> bytes);
  // All slabs must have been written.
  void commit();

  // Removes what an interrupted run left.
  static void remove_partial(const std::string& path);

 private:
  size_t flat(const PackSlabId& id) const;
  PackSlab& slab(const PackSlabId& id);
  bool read_journal();
  void start_anew();
  uint64_t slabs_end() const;

  std::string path_;
  PackIndex index_;
  std::vector<PackSlabId> order_;
  std::vector<std::array<size_t, 2>> first_;  // [layer][precision]: place in order_
  uint64_t plan_hash_;
  OutputFd file_, journal_;
  mutable std::mutex mutex_;  // guards what follows
  std::vector<bool> done_;    // by place in order_
  uint64_t done_bytes_ = 0;
  uint64_t journal_end_ = 0;
};

// Gives every slab its offset, one after the other in slab_order() from page 1 on; returns the end.
uint64_t place_slabs(PackIndex& index);

}  // namespace hob
