#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "wanrelay/control_socket.h"
#include "wanrelay/direction.h"
#include "wanrelay/fd.h"
#include "wanrelay/options.h"

namespace hob::wan {

// The loop between two TUN devices. One thread.
class Relay {
 public:
  // Makes the devices. SIGINT and SIGTERM are blocked from then on: run() waits for them.
  explicit Relay(const Options& options);

  // Until SIGINT or SIGTERM.
  void run();
  // One JSON object.
  std::string stats() const;

 private:
  // Sleeps until there is something to do; true when a signal asks for the end.
  bool wait();
  void set_timer(int64_t due_ns);
  // A command's reply.
  std::string execute(std::string_view line);

  bool spin_;
  Fd left_, right_, timer_, signals_;
  Direction up_, down_;
  std::unique_ptr<ControlSocket> control_;  // null without --control
  int64_t start_ns_;
  int64_t timer_ns_ = kForever;  // what the timer is set to
};

}  // namespace hob::wan
