#pragma once
// Numbers that took long to measure, kept in a small text file as they come.
#include <cstdint>
#include <map>
#include <string>

#include "format/file_io.h"

namespace hob {

class LossJournal {
 public:
  // `key`: a hash of all that decides the numbers; what a file of another key holds is thrown away.
  // A line that was not written whole ends what is read. Throws Error(kIo) when another process is
  // at it, Error(kInvalidArgument) when `path` is a file of another kind.
  LossJournal(const std::string& path, uint64_t key);

  // The number of item `index`; nullptr: not there.
  const double* find(uint64_t index) const;
  void add(uint64_t index, double value);

 private:
  OutputFd file_;
  uint64_t end_ = 0;  // of what is whole
  std::map<uint64_t, double> values_;
};

}  // namespace hob
