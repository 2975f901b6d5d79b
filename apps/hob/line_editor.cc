#include "line_editor.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
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

  Interrupt interrupt;

  explicit Impl(Interrupt i) : interrupt(i) {}
  static Impl* of(EditLine* e) {
    void* self = nullptr;
    el_get(e, EL_CLIENTDATA, &self);
    return static_cast<Impl*>(self);
  }
  static char* prompt_of(EditLine* e) { return of(e)->prompt.data(); }
  // EL_GETCFN: 1 = a character, 0 = the terminal is closed, -1 with EINTR = Ctrl-C.
  static int read_char(EditLine* e, wchar_t* out) { return of(e)->read_char(out); }
  int read_char(wchar_t* out);
  bool wait_for_input();
};

// False on Ctrl-C. libedit's own reader blocks in read(), and a signal just before that would be lost.
bool LineEditor::Impl::wait_for_input() {
  while (true) {
    pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {interrupt.wake_fd, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return true;  // let read() say what is wrong
    char drained[64];
    while (::read(interrupt.wake_fd, drained, sizeof(drained)) > 0) {
    }
    if (interrupt.flag) return false;
    if (fds[0].revents) return true;
  }
}

int LineEditor::Impl::read_char(wchar_t* out) {
  char bytes[MB_LEN_MAX];
  for (size_t n = 1; n <= sizeof(bytes); n++) {
    if (!wait_for_input()) {
      errno = EINTR;
      return -1;
    }
    if (::read(STDIN_FILENO, bytes + n - 1, 1) != 1) return 0;
    std::mbstate_t state{};
    const size_t length = std::mbrtowc(out, bytes, n, &state);
    if (length == static_cast<size_t>(-2)) continue;  // half a character
    if (length == static_cast<size_t>(-1)) break;
    return 1;
  }
  *out = L'?';  // no character of this encoding
  return 1;
}

LineEditor::LineEditor(Interrupt interrupt) : impl_(std::make_unique<Impl>(interrupt)) {
  impl_->edit = el_init("hob", stdin, stdout, stderr);
  impl_->history = history_init();
  impl_->path = history_path();
  history(impl_->history, &impl_->event, H_SETSIZE, kHistoryLines);
  history(impl_->history, &impl_->event, H_SETUNIQUE, 1);
  if (!impl_->path.empty()) history(impl_->history, &impl_->event, H_LOAD, impl_->path.c_str());
  el_set(impl_->edit, EL_CLIENTDATA, impl_.get());
  el_set(impl_->edit, EL_PROMPT, &Impl::prompt_of);
  el_set(impl_->edit, EL_GETCFN, static_cast<int (*)(EditLine*, wchar_t*)>(&Impl::read_char));
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
  // Raw mode before the prompt shows: el_gets switches after printing it, and a Ctrl-D in between
  // would end a line of the cooked terminal that nobody reads.
  el_set(impl_->edit, EL_PREP_TERM, 1);
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
