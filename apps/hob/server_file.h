#pragma once
// Which servers run: one small file each, in a folder that only this user can read and write.
#include <sys/types.h>

#include <cstdint>
#include <ctime>
#include <string>
#include <vector>

namespace hob::app {

struct ServerEntry {
  pid_t pid = 0;
  // When the process began, in clock ticks since the system did: a process with the same number but
  // another start is somebody else.
  uint64_t start_ticks = 0;
  std::string host;
  int port = 0;
  bool tls = false;
  std::string name, model;  // what clients call it, the file
  std::time_t started = 0;
};

// $XDG_RUNTIME_DIR/hob, or /tmp/hob-UID. Made with mode 0700; throws Error when it belongs to
// somebody else or others may enter.
std::string server_folder();

// Those that are alive; files of dead ones are removed. Broken files are ignored.
std::vector<ServerEntry> running_servers();
bool is_alive(const ServerEntry& entry);

// Of this process; the file is removed with the object.
class ServerFile {
 public:
  explicit ServerFile(ServerEntry entry);  // fills in pid and start
  ~ServerFile();
  ServerFile(const ServerFile&) = delete;
  ServerFile& operator=(const ServerFile&) = delete;

 private:
  std::string path_;
};

}  // namespace hob::app
