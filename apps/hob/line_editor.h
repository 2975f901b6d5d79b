#pragma once
// Lines from a terminal with editing and a history that outlives the program.
#include <memory>
#include <string>

#include "interrupt.h"

namespace hob::app {

class LineEditor {
 public:
  // History in $XDG_STATE_HOME/hob/history (default ~/.local/state); without a home it lives for
  // this run only.
  explicit LineEditor(Interrupt interrupt);
  ~LineEditor();
  enum class Status { kLine, kInterrupted, kEnd };
  // `line` without its newline. kInterrupted: Ctrl-C; kEnd: Ctrl-D or a closed terminal.
  Status read(const std::string& prompt, std::string& line);
  void remember(const std::string& entry);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hob::app
