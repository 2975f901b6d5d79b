// hob ps, hob stop: the servers of this user.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <thread>

#include "base/error.h"
#include "base/size_parse.h"
#include "command.h"
#include "output.h"
#include "server_file.h"

namespace hob::app {
namespace {

uint64_t rss_bytes(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/statm", pid));
  uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

std::string url(const ServerEntry& e) {
  const bool v6 = e.host.find(':') != std::string::npos;
  return fmt::format("{}://{}{}{}:{}", e.tls ? "https" : "http", v6 ? "[" : "", e.host,
                     v6 ? "]" : "", e.port);
}

// "3h12m"
std::string duration(std::time_t seconds) {
  if (seconds < 60) return fmt::format("{}s", seconds);
  if (seconds < 3600) return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
  return fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
}

void list_servers(bool json) {
  const std::vector<ServerEntry> servers = running_servers();
  if (!json)
    write_out(fmt::format("{:<8} {:<32} {:<32} {:>10} {:>9}\n", "PID", "NAME", "ADDRESS", "MEMORY",
                          "UP"));
  for (const ServerEntry& e : servers) {
    const std::time_t up = std::time(nullptr) - e.started;
    if (json)
      write_json({{"pid", e.pid},
                  {"name", e.name},
                  {"model", e.model},
                  {"url", url(e)},
                  {"rss_bytes", rss_bytes(e.pid)},
                  {"up_s", up}});
    else
      write_out(fmt::format("{:<8} {:<32} {:<32} {:>10} {:>9}\n", e.pid, e.name, url(e),
                            format_size(rss_bytes(e.pid)), duration(up)));
  }
}

struct StopOptions {
  std::string which;
  bool now = false, all = false;
  int timeout_s = 600;
};

std::vector<ServerEntry> chosen(const StopOptions& o) {
  std::vector<ServerEntry> servers = running_servers();
  if (!o.which.empty())
    std::erase_if(servers, [&](const ServerEntry& e) {
      return o.which != std::to_string(e.pid) && o.which != std::to_string(e.port) &&
             o.which != e.name;
    });
  if (servers.empty())
    fail(Code::kNotFound, "[stop] expected a running server{}, there is none",
         o.which.empty() ? "" : fmt::format(" '{}'", o.which));
  if (servers.size() > 1 && !o.all)
    fail(Code::kInvalidArgument,
         "[stop] expected one server, {} run: name its PID, port or model, or --all ('hob ps' "
         "lists them)",
         servers.size());
  return servers;
}

void send(const ServerEntry& e, int signal) {
  // Between the look and the signal the process may have gone: that is what was wanted.
  if (is_alive(e) && kill(e.pid, signal) != 0 && errno != ESRCH)
    fail(Code::kIo, "[stop] expected to signal process {}, {}", e.pid, std::strerror(errno));
}

void stop_servers(const StopOptions& o) {
  constexpr std::chrono::milliseconds kPoll{20};
  const std::vector<ServerEntry> servers = chosen(o);
  for (const ServerEntry& e : servers) send(e, SIGTERM);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(o.timeout_s);
  bool second = o.now;
  for (const ServerEntry& e : servers) {
    while (is_alive(e)) {
      if (second) {
        // Two signals in a row would be seen as one: the first must have been taken.
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        for (const ServerEntry& other : servers) send(other, SIGTERM);
        second = false;
      }
      if (std::chrono::steady_clock::now() > end)
        fail(Code::kCancelled,
             "[stop] expected process {} to end within {} s, it still finishes requests; --now "
             "does not wait for them",
             e.pid, o.timeout_s);
      std::this_thread::sleep_for(kPoll);
    }
    write_out(fmt::format("stopped {} ({})\n", e.name, e.pid));
  }
}

}  // namespace

Runner setup_ps(CLI::App& app) {
  auto json = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "one JSON object per line on stdout");
  return [json] { list_servers(*json); };
}

Runner setup_stop(CLI::App& app) {
  auto o = std::make_shared<StopOptions>();
  app.add_option("WHICH", o->which, "PID, port or model name; default: the only one");
  app.add_flag("--all", o->all, "all that match");
  app.add_flag("--now", o->now, "do not wait for running requests");
  app.add_option("--timeout", o->timeout_s, "seconds to wait")->check(CLI::Range(1, 86400));
  return [o] { stop_servers(*o); };
}

}  // namespace hob::app
