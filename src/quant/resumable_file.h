#pragma once
// A large file written in pieces that survives an interruption: PATH.partial holds the pieces and
// PATH.partial.journal says which are complete. The beginning of the file is written last, and only
// then does it get its name: nothing that is there before could be taken for the finished file.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "format/file_io.h"

namespace hob {

class ResumableFile {
 public:
  struct Piece {
    uint64_t offset, n_bytes;
  };
  // `key`: a hash of everything that decides the content. What an earlier run left is used if it
  // has the same key, as far as its bytes are what the journal says; else it starts anew. Throws
  // Error(kIo) when another process is at it, Error(kResourceExhausted) when the disk is too small.
  ResumableFile(std::string path, uint64_t key, uint64_t n_bytes, std::vector<Piece> pieces);

  size_t n_done() const { return n_done_; }  // pieces; write_next() continues with this one
  uint64_t bytes_found() const { return bytes_found_; }  // of an earlier run
  bool discarded() const { return discarded_; }          // there was an earlier run of another kind
  // The bytes of piece n_done().
  void write_next(std::span<const std::byte> bytes);
  // All pieces are written: the beginning, then the name.
  void finish(std::span<const std::byte> beginning);

 private:
  void resume();
  bool intact(size_t piece, uint64_t hash) const;
  void start_anew();

  std::string path_;
  uint64_t key_, n_bytes_;
  std::vector<Piece> pieces_;
  OutputFd data_, journal_;
  size_t n_done_ = 0;
  uint64_t bytes_found_ = 0;
  bool discarded_ = false;
};

// What an interrupted run left, if anything: for those who give up.
void remove_partial(const std::string& path);

}  // namespace hob
