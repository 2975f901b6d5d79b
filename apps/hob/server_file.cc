#include "server_file.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "format/atomic_file.h"

namespace hob::app {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// 0 when there is no such process.
uint64_t start_ticks_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  if (!std::getline(file, line)) return 0;
  // The name may hold anything, but it ends with the last ')'. Start time is field 22.
  const size_t end = line.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream rest(line.substr(end + 1));
  std::string state, field;
  rest >> state;
  constexpr int kFieldsBetween = 18;  // 4 .. 21
  for (int i = 0; i < kFieldsBetween; i++) rest >> field;
  uint64_t ticks = 0;
  rest >> ticks;
  return state == "Z" ? 0 : ticks;
}

std::optional<ServerEntry> read_entry(const fs::path& path) {
  std::ifstream file(path);
  const json j = json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (!j.is_object()) return std::nullopt;
  try {
    return ServerEntry{.pid = j.at("pid"),
                       .start_ticks = j.at("start_ticks"),
                       .host = j.at("host"),
                       .port = j.at("port"),
                       .tls = j.at("tls"),
                       .name = j.at("name"),
                       .model = j.at("model"),
                       .started = j.at("started")};
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

}  // namespace

std::string server_folder() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const std::string path = runtime && runtime[0] == '/' ? std::string(runtime) + "/hob"
                                                        : fmt::format("/tmp/hob-{}", geteuid());
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    fail(Code::kIo, "[serve] {}: expected to make the folder, {}", path, std::strerror(errno));
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
      (info.st_mode & 077) != 0)
    fail(Code::kIo, "[serve] {}: expected a folder of this user with mode 0700, it is another",
         path);
  return path;
}

bool is_alive(const ServerEntry& entry) {
  return entry.pid > 0 && entry.start_ticks > 0 && start_ticks_of(entry.pid) == entry.start_ticks;
}

std::vector<ServerEntry> running_servers() {
  std::vector<ServerEntry> alive;
  for (const fs::directory_entry& file : fs::directory_iterator(server_folder())) {
    if (file.path().extension() != ".json") continue;
    const auto entry = read_entry(file.path());
    if (entry && is_alive(*entry))
      alive.push_back(*entry);
    else if (entry)
      unlink(file.path().c_str());
  }
  std::sort(alive.begin(), alive.end(),
            [](const ServerEntry& a, const ServerEntry& b) { return a.pid < b.pid; });
  return alive;
}

ServerFile::ServerFile(ServerEntry entry)
    : path_(fmt::format("{}/{}.json", server_folder(), getpid())) {
  const std::string text = json{{"pid", getpid()},      {"start_ticks", start_ticks_of(getpid())},
                                {"host", entry.host},   {"port", entry.port},
                                {"tls", entry.tls},     {"name", entry.name},
                                {"model", entry.model}, {"started", std::time(nullptr)}}
                               .dump(-1, ' ', false, json::error_handler_t::replace);
  AtomicFile file(path_);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

ServerFile::~ServerFile() { unlink(path_.c_str()); }

}  // namespace hob::app
