#include "wanrelay/options.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/size_parse.h"
#include "wanrelay/command.h"

namespace hob::wan {
namespace {

// What the options say before it is checked. One value for both directions, or "up,down".
struct Raw {
  std::vector<double> delay_ms{0}, jitter_ms{0}, loss_percent{0};
  std::vector<std::string> queue{"256K"};
  std::string up = "0", down = "0";
};

void check(bool good, const std::string& message) {
  if (!good) throw Error(Code::kInvalidArgument, "[usage] " + message);
}

void add_options(CLI::App& app, Options& options, Raw& raw) {
  app.add_option("--left", options.left, "network namespace: a name of `ip netns`, or a path");
  app.add_option("--right", options.right, "the other one");
  app.add_option("--left-ip", options.left_ip, "address of the left end")->capture_default_str();
  app.add_option("--right-ip", options.right_ip, "address of the right end")->capture_default_str();
  app.add_option("--device", options.device, "name of the device in both")->capture_default_str();
  app.add_option("--mtu", options.mtu, "largest packet, bytes")->capture_default_str();
  const auto pair = [&](const char* name, auto& values, const char* help) {
    app.add_option(name, values, help)->delimiter(',')->expected(1, 2);
  };
  pair("--delay", raw.delay_ms, "one way, milliseconds; this and the next three: X, or UP,DOWN");
  pair("--jitter", raw.jitter_ms, "up to so many milliseconds more; packets stay in order");
  pair("--loss", raw.loss_percent, "percent of the packets");
  pair("--queue", raw.queue, "bytes that may wait for the link, e.g. 256K (binary)");
  app.add_option("--up", raw.up, "bits per second from left to right, e.g. 20M (decimal); 0: any");
  app.add_option("--down", raw.down, "bits per second from right to left");
  app.add_option("--seed", options.seed, "of loss and jitter")->capture_default_str();
  app.add_flag("--spin", options.spin, "wait for the last 200 us of a delay without sleeping");
  app.add_option("--control", options.control, "Unix socket for commands while it runs");
  app.add_option("--send", options.send,
                 "send a command to the relay at --control, print its reply");
  app.footer(
      "Commands: drop both|up|down SECONDS|forever, restore, delay [both|up|down] MS, stats.\n"
      "Ends on SIGINT or SIGTERM and prints the stats.");
}

void check_ip(const std::string& name, const std::string& ip) {
  in_addr address;
  check(inet_pton(AF_INET, ip.c_str(), &address) == 1,
        fmt::format("{}: expected an IPv4 address, got '{}'", name, ip));
}

void check_names(const Options& o) {
  check(!o.left.empty() && !o.right.empty(),
        "expected --left and --right, the namespaces to connect");
  check(o.left != o.right, fmt::format("expected two namespaces, both are '{}'", o.left));
  check_ip("--left-ip", o.left_ip);
  check_ip("--right-ip", o.right_ip);
  check(o.left_ip != o.right_ip, fmt::format("expected two addresses, both are {}", o.left_ip));
  check(!o.device.empty() && o.device.size() < IFNAMSIZ &&
            o.device.find_first_of("/%: ") == std::string::npos,
        fmt::format("--device: expected a name of 1 to {} letters, got '{}'", IFNAMSIZ - 1,
                    o.device));
  check(o.mtu >= 68 && o.mtu <= 65535,
        fmt::format("--mtu: expected 68 to 65535 bytes, got {}", o.mtu));
}

double in_range(const char* name, double value, double max) {
  check(value >= 0 && value <= max,
        fmt::format("{}: expected 0 to {:.0f}, got {}", name, max, value));
  return value;
}

LineConfig line_config(const Raw& raw, bool up, int mtu) {
  const auto of = [up](const auto& values) { return up ? values.front() : values.back(); };
  LineConfig line;
  line.delay_ns = std::llround(in_range("--delay", of(raw.delay_ms), kMaxDelayMs) * 1e6);
  line.jitter_ns = std::llround(in_range("--jitter", of(raw.jitter_ms), kMaxDelayMs) * 1e6);
  line.loss = in_range("--loss", of(raw.loss_percent), 100) / 100;
  line.rate_bit_s = parse_rate(up ? raw.up : raw.down);
  line.queue_bytes = parse_size(of(raw.queue));
  check(line.queue_bytes >= static_cast<uint64_t>(mtu),
        fmt::format("--queue: expected at least a packet (--mtu {}), got {} bytes", mtu,
                    line.queue_bytes));
  return line;
}

}  // namespace

double parse_rate(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view suffix(end, static_cast<size_t>(text.data() + text.size() - end));
  const double factor = suffix.empty()                   ? 1
                        : suffix == "k" || suffix == "K" ? 1e3
                        : suffix == "m" || suffix == "M" ? 1e6
                        : suffix == "g" || suffix == "G" ? 1e9
                                                         : 0;
  // Less than a byte per second is a typing error; the largest is far beyond what a TUN carries.
  const double rate = value * factor;
  if (error != std::errc() || factor == 0 || !(rate == 0 || (rate >= 8 && rate <= 1e12)))
    fail(Code::kInvalidArgument,
         "[usage] expected a rate in bits per second such as 20M, or 0 for unlimited, got '{}'",
         text);
  return rate;
}

Options parse_options(CLI::App& app, int argc, const char* const* argv) {
  Options options;
  Raw raw;
  add_options(app, options, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) throw;  // --help
    std::string what = error.what();
    std::replace(what.begin(), what.end(), '\n', ' ');
    fail(Code::kInvalidArgument, "[usage] {}; see 'wanrelay --help'", what);
  }
  if (app.count("--send") > 0) {
    check(!options.control.empty(), "expected --control, the socket to send the command to");
    parse_command(options.send);
    return options;
  }
  check_names(options);
  options.up = line_config(raw, true, options.mtu);
  options.down = line_config(raw, false, options.mtu);
  return options;
}

}  // namespace hob::wan
