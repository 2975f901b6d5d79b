// wanrelay: a wide-area path between two network namespaces of one machine, in user space: for
// kernels without netem, and with outages on command.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <new>

#include "base/error.h"
#include "wanrelay/control_socket.h"
#include "wanrelay/options.h"
#include "wanrelay/relay.h"

namespace hob::wan {
namespace {

constexpr int kFailed = 1, kBadUsage = 2;

int report(const char* message, int code) {
  fmt::print(stderr, "wanrelay: {}\n", message);
  return code;
}

int print_line(const std::string& line) {
  fmt::print("{}\n", line);
  return std::fflush(stdout) == 0 ? 0 : report("[output] expected to write stdout", kFailed);
}

int send(const Options& options) {
  const std::string reply = send_command(options.control, options.send);
  constexpr std::string_view kError = "error: ";
  if (reply.starts_with(kError)) return report(reply.c_str() + kError.size(), kFailed);
  return print_line(reply);
}

int relay(const Options& o) {
  Relay relay(o);
  fmt::print(stderr, "wanrelay: {} {} <-> {} {}\n", o.left, o.left_ip, o.right, o.right_ip);
  relay.run();
  return print_line(relay.stats());
}

int real_main(int argc, char** argv) {
  CLI::App app("wanrelay: a wide-area path between two network namespaces", "wanrelay");
  try {
    const Options options = parse_options(app, argc, argv);
    return options.send.empty() ? relay(options) : send(options);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const Error& error) {
    return report(error.what(), error.code() == Code::kInvalidArgument ? kBadUsage : kFailed);
  } catch (const std::bad_alloc&) {
    return report("[memory] expected more memory, the system has none", kFailed);
  }
}

}  // namespace
}  // namespace hob::wan

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of the write
  return hob::wan::real_main(argc, argv);
}
