#include "wanrelay/tun.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace hob::wan {
namespace {

// The kernel's own queue in front of the device, 500 by default, drops what no statistics of ours
// would show. This many full packets are 100 ms at 1.2 Gbit/s, about what a TUN carries: longer
// than the relay waits for a processor.
constexpr int kKernelQueuePackets = 10'000;

// Moves the calling thread into a network namespace for as long as it lives.
class InNamespace {
 public:
  explicit InNamespace(const std::string& space)
      : own_(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
    if (!own_.is_open())
      fail(Code::kIo, "[namespace] expected /proc/thread-self/ns/net, {}", strerror(errno));
    const std::string path =
        space.find('/') == std::string::npos ? "/var/run/netns/" + space : space;
    const Fd other(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!other.is_open())
      fail(Code::kNotFound, "[namespace] {}: expected a network namespace at {}, {}", space, path,
           strerror(errno));
    if (setns(other.get(), CLONE_NEWNET) != 0)
      fail(Code::kIo, "[namespace] {}: expected the right to enter it (root), {}", space,
           strerror(errno));
  }
  ~InNamespace() {
    // Going on in the wrong namespace would be worse than ending.
    HOB_CHECK(setns(own_.get(), CLONE_NEWNET) == 0);
  }
  InNamespace(const InNamespace&) = delete;
  InNamespace& operator=(const InNamespace&) = delete;

 private:
  Fd own_;
};

ifreq request_for(const std::string& device) {
  ifreq request{};
  HOB_CHECK(device.size() < IFNAMSIZ);
  std::memcpy(request.ifr_name, device.data(), device.size());
  return request;
}

sockaddr ipv4_address(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  HOB_CHECK(inet_pton(AF_INET, text.c_str(), &address.sin_addr) == 1);
  sockaddr out;
  static_assert(sizeof(out) == sizeof(address));
  std::memcpy(&out, &address, sizeof(out));
  return out;
}

void configure(const TunConfig& config) {
  const Fd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto apply = [&](unsigned long what, const char* name, const ifreq& request) {
    if (!control.is_open() || ioctl(control.get(), what, &request) != 0)
      fail(Code::kIo, "[tun] {} in {}: expected to set its {}, {}", config.device, config.space,
           name, strerror(errno));
  };
  ifreq request = request_for(config.device);
  request.ifr_mtu = config.mtu;
  apply(SIOCSIFMTU, "MTU", request);
  request = request_for(config.device);
  request.ifr_qlen = kKernelQueuePackets;
  apply(SIOCSIFTXQLEN, "queue length", request);
  request = request_for(config.device);
  request.ifr_addr = ipv4_address(config.own_ip);
  apply(SIOCSIFADDR, "address", request);
  request.ifr_dstaddr = ipv4_address(config.peer_ip);
  apply(SIOCSIFDSTADDR, "peer's address", request);
  request = request_for(config.device);
  request.ifr_flags = IFF_UP | IFF_POINTOPOINT | IFF_NOARP;
  apply(SIOCSIFFLAGS, "state", request);
}

}  // namespace

Fd open_tun(const TunConfig& config) {
  const InNamespace inside(config.space);
  // Opened inside: the kernel takes the namespace from the opening, not from TUNSETIFF.
  Fd tun(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!tun.is_open()) fail(Code::kIo, "[tun] expected to open /dev/net/tun, {}", strerror(errno));
  ifreq request = request_for(config.device);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  if (ioctl(tun.get(), TUNSETIFF, &request) != 0)
    fail(Code::kIo, "[tun] expected to make {} in {}, {}", config.device, config.space,
         strerror(errno));
  configure(config);
  return tun;
}

}  // namespace hob::wan
