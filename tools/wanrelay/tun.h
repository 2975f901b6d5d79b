#pragma once
#include <string>

#include "wanrelay/fd.h"

namespace hob::wan {

struct TunConfig {
  std::string space;   // network namespace: a name of `ip netns`, or a path to one
  std::string device;  // name of the device inside of it
  std::string own_ip, peer_ip;
  int mtu = 1500;
};

// A TUN device inside the namespace, up, with a route to the peer; the calling thread is back in
// its own namespace afterwards. Reads and writes of the descriptor are single IP packets and do not
// block. The device goes when the descriptor is closed.
Fd open_tun(const TunConfig& config);

}  // namespace hob::wan
