#include "repl.h"

#include <fmt/format.h>

#include "base/error.h"
#include "line_editor.h"
#include "output.h"

namespace hob::app {
namespace {

constexpr const char* kHelp =
    "  /clear         forget the conversation\n"
    "  /system TEXT   set the system message and start over (no text: none)\n"
    "  /context       tokens in use\n"
    "  /bye           leave (also Ctrl-D)\n"
    "  \"\"\"            starts and ends a message of several lines\n"
    "  Ctrl-C         stops the answer\n";

constexpr std::string_view kQuotes = "\"\"\"";

class Repl {
 public:
  Repl(Chat& chat, Interrupt interrupt, bool quiet, const OnAnswer& on_answer)
      : chat_(chat),
        interrupted_(interrupt.flag),
        quiet_(quiet),
        on_answer_(on_answer),
        editor_(interrupt) {}

  void run() {
    std::string message;
    while (read_message(message)) {
      if (message.empty()) continue;
      editor_.remember(message);
      if (message[0] == '/' && message.find('\n') == std::string::npos) {
        if (!command(message)) return;
      } else {
        answer(message);
      }
    }
  }

 private:
  // False when the user leaves. An interrupted message is empty.
  bool read_message(std::string& message) {
    message.clear();
    std::string line;
    switch (editor_.read(">>> ", line)) {
      case LineEditor::Status::kEnd:
        write_out("\n");
        return false;
      case LineEditor::Status::kInterrupted:
        return stay_after_interrupt();
      case LineEditor::Status::kLine:
        break;
    }
    hinted_ = false;
    if (!line.starts_with(kQuotes)) {
      message = line;
      return true;
    }
    return read_rest(line.substr(kQuotes.size()), message);
  }

  // Lines up to the closing quotes.
  bool read_rest(std::string line, std::string& message) {
    while (true) {
      if (const size_t end = line.find(kQuotes); end != std::string::npos) {
        message += line.substr(0, end);
        return true;
      }
      message += line + "\n";
      const LineEditor::Status status = editor_.read("... ", line);
      if (status == LineEditor::Status::kLine) continue;
      message.clear();
      interrupted_ = false;
      write_out("\n");
      return status == LineEditor::Status::kInterrupted;
    }
  }

  bool stay_after_interrupt() {
    interrupted_ = false;
    write_out("\n");
    if (hinted_) return false;
    hinted_ = true;
    note(false, "(Ctrl-C again, Ctrl-D or /bye to leave)");
    return true;
  }

  // False = leave.
  bool command(const std::string& line) {
    const std::string name = line.substr(0, line.find(' '));
    const std::string rest = line.size() > name.size() ? line.substr(name.size() + 1) : "";
    if (name == "/bye" || name == "/exit" || name == "/quit") return false;
    if (name == "/clear") {
      chat_.clear();
    } else if (name == "/system") {
      chat_.set_system(rest);
    } else if (name == "/context") {
      write_out(fmt::format("{} tokens\n", chat_.n_context_tok()));
    } else {
      if (name != "/help" && name != "/?") write_out(fmt::format("unknown command {}\n", name));
      write_out(kHelp);
    }
    flush_out();
    return true;
  }

  void answer(const std::string& message) {
    interrupted_ = false;
    ProgressBar bar(quiet_);
    const auto on_text = [&](std::string_view text) {
      bar.clear();
      write_out(text);
      flush_out();
    };
    const auto on_prefill = [&](int done, int total) {
      bar.update("reading", static_cast<uint64_t>(done), static_cast<uint64_t>(total));
    };
    try {
      const Answer result = chat_.ask(message, interrupted_, on_text, on_prefill);
      bar.clear();
      write_out("\n");
      flush_out();
      on_answer_(result);
    } catch (const Error& e) {  // one bad message must not end the chat
      bar.clear();
      fmt::print(stderr, "hob: {}\n", e.what());
    }
    interrupted_ = false;
  }

  Chat& chat_;
  std::atomic<bool>& interrupted_;
  bool quiet_;
  const OnAnswer& on_answer_;
  LineEditor editor_;
  bool hinted_ = false;
};

}  // namespace

void run_repl(Chat& chat, Interrupt interrupt, bool quiet, const OnAnswer& on_answer) {
  note(quiet, "/help for commands, Ctrl-D to leave");
  Repl(chat, interrupt, quiet, on_answer).run();
}

}  // namespace hob::app
