#include "line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace hob::app {
namespace {

constexpr int kHistoryLines = 1000;

std::string history_path() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::filesystem::path dir;
  if (state && *state)
    dir = state;
  else if (home && *home)
    dir = std::filesystem::path(home) / ".local" / "state";
  else
    return "";
  std::error_code error;  // a read-only home costs the history, nothing else
  std::filesystem::create_directories(dir / "hob", error);
  return error ? "" : (dir / "hob" / "history").string();
}

}  // namespace

struct LineEditor::Impl {
  EditLine* edit = nullptr;
  History* history = nullptr;
  HistEvent event{};
  std::string prompt, path;

  static char* prompt_of(EditLine* e) {
    void* self = nullptr;
    el_get(e, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self)->prompt.data();
  }
};

LineEditor::LineEditor() : impl_(std::make_unique<Impl>()) {
  impl_->edit = el_init("hob", stdin, stdout, stderr);
  impl_->history = history_init();
  impl_->path = history_path();
  history(impl_->history, &impl_->event, H_SETSIZE, kHistoryLines);
  history(impl_->history, &impl_->event, H_SETUNIQUE, 1);
  if (!impl_->path.empty()) history(impl_->history, &impl_->event, H_LOAD, impl_->path.c_str());
  el_set(impl_->edit, EL_CLIENTDATA, impl_.get());
  el_set(impl_->edit, EL_PROMPT, &Impl::prompt_of);
  el_set(impl_->edit, EL_EDITOR, "emacs");
  el_set(impl_->edit, EL_HIST, history, impl_->history);
  el_set(impl_->edit, EL_SIGNAL, 0);  // signals stay ours
  el_source(impl_->edit, nullptr);    // the user's ~/.editrc
}

LineEditor::~LineEditor() {
  if (!impl_->path.empty()) history(impl_->history, &impl_->event, H_SAVE, impl_->path.c_str());
  el_end(impl_->edit);
  history_end(impl_->history);
}

LineEditor::Status LineEditor::read(const std::string& prompt, std::string& line) {
  impl_->prompt = prompt;
  int n = 0;
  errno = 0;
  const char* text = el_gets(impl_->edit, &n);
  if (!text || n <= 0) {
    const bool interrupted = n < 0 && errno == EINTR;
    if (interrupted) el_reset(impl_->edit);
    return interrupted ? Status::kInterrupted : Status::kEnd;
  }
  line.assign(text, static_cast<size_t>(n));
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
  return Status::kLine;
}

void LineEditor::remember(const std::string& entry) {
  if (!entry.empty()) history(impl_->history, &impl_->event, H_ENTER, entry.c_str());
}

}  // namespace hob::app
