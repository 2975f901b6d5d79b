#include "edge/grpc_link.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <mutex>

#include "edge/grpc_log.h"
#include "edgespec.grpc.pb.h"

namespace hob::edge {
namespace {

// The stream itself. gRPC calls it until OnDone(), so it owns itself until then.
class StreamCall : public grpc::ClientBidiReactor<pb::ClientFrame, pb::ServerFrame> {
 public:
  StreamCall(const GrpcLinkOptions& options, std::shared_ptr<LinkEvents> events)
      : pad_bytes_(options.pad_bytes), events_(std::move(events)) {
    if (!options.api_key.empty())
      context_.AddMetadata("authorization", "Bearer " + options.api_key);
  }

  void start(pb::EdgeSpec::Stub& stub, std::shared_ptr<StreamCall> self) {
    self_ = std::move(self);
    stub.async()->Generate(&context_, this);
    AddHold();  // send() comes from outside of gRPC's calls
    StartRead(&incoming_);
    StartCall();
  }

  void send(pb::ClientFrame frame) {
    pad_frame(frame, pad_bytes_);
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    queue_.push_back(std::move(frame));
    write_next();
  }

  // Nothing is told any more. What has been sent still goes out, if that does not take long.
  void close() {
    const std::lock_guard lock(mutex_);
    events_.reset();
    end();
  }

  void OnReadDone(bool ok) override {
    std::shared_ptr<LinkEvents> events;
    {
      const std::lock_guard lock(mutex_);
      if (!ok) return end();
      events = events_;
    }
    if (events) events->on_frame(std::move(incoming_));
    incoming_.Clear();
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) {
      queue_.clear();
      end();
    }
    write_next();
  }

  void OnDone(const grpc::Status& status) override {
    const std::shared_ptr<StreamCall> self = std::move(self_);
    std::shared_ptr<LinkEvents> events;
    {
      const std::lock_guard lock(mutex_);
      events = std::exchange(events_, nullptr);
    }
    if (events) events->on_closed(status.error_message());
  }

 private:
  // Under the mutex: no writes after those in the queue.
  void end() {
    if (closing_) return;
    closing_ = true;
    write_next();
  }

  void write_next() {
    if (writing_ || done_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(&queue_.front());
    } else if (closing_) {
      done_ = true;
      if (events_)
        RemoveHold();
      else
        release();
    }
  }

  // We want no answer any more: the server hears that at once.
  void release() {
    StartWritesDone();
    RemoveHold();
    context_.TryCancel();
  }

  const int pad_bytes_;
  grpc::ClientContext context_;
  pb::ServerFrame incoming_;
  std::mutex mutex_;
  std::shared_ptr<LinkEvents> events_;
  std::deque<pb::ClientFrame> queue_;
  bool writing_ = false, closing_ = false, done_ = false;
  std::shared_ptr<StreamCall> self_;
};

class GrpcLink : public Link {
 public:
  explicit GrpcLink(std::shared_ptr<StreamCall> call) : call_(std::move(call)) {}
  ~GrpcLink() override { call_->close(); }
  void send(pb::ClientFrame frame) override { call_->send(std::move(frame)); }

 private:
  const std::shared_ptr<StreamCall> call_;
};

// Libraries below put line ends into their messages.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::shared_ptr<grpc::ChannelCredentials> credentials(const GrpcLinkOptions& o) {
  if (!o.tls) return grpc::InsecureChannelCredentials();
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = o.server_ca;
  tls.pem_cert_chain = o.certificate;
  tls.pem_private_key = o.key;
  return grpc::SslCredentials(tls);
}

// What a server says that wants TLS, or a certificate: nothing.
const char* hint(const grpc::Status& status) {
  return status.error_message().find("Socket closed") == std::string::npos
             ? ""
             : " (does it want --tls, or a certificate?)";
}

// kIo: it may be there later. Certificates that do not fit have no code of their own in gRPC.
Code code_of(const grpc::Status& status) {
  const bool refuses = status.error_message().find("Ssl handshake") != std::string::npos;
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
      return refuses ? Code::kInvalidArgument : Code::kIo;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Code::kIo;
    case grpc::StatusCode::NOT_FOUND:
      return Code::kNotFound;
    default:
      return Code::kInvalidArgument;
  }
}

class GrpcConnector : public Connector {
 public:
  explicit GrpcConnector(const GrpcLinkOptions& options) : options_(options) {
    silence_grpc();
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
    args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
    args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    // The session backs off by itself, with jitter.
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
    args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    if (!options.server_name.empty()) args.SetSslTargetNameOverride(options.server_name);
    channel_ = grpc::CreateCustomChannel(options.address, credentials(options), args);
    stub_ = pb::EdgeSpec::NewStub(channel_);
  }

  pb::Capabilities capabilities(const pb::CapabilitiesRequest& request) override {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::milliseconds(options_.connect_timeout_ms));
    if (!options_.api_key.empty())
      context.AddMetadata("authorization", "Bearer " + options_.api_key);
    pb::Capabilities reply;
    const grpc::Status status = stub_->GetCapabilities(&context, request, &reply);
    if (!status.ok())
      fail(code_of(status), "[edge] expected {} to answer, {}{}", options_.address,
           one_line(status.error_message()), hint(status));
    return reply;
  }

  std::unique_ptr<Link> connect(std::shared_ptr<LinkEvents> events) override {
    const auto call = std::make_shared<StreamCall>(options_, std::move(events));
    call->start(*stub_, call);
    return std::make_unique<GrpcLink>(call);
  }

 private:
  const GrpcLinkOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::EdgeSpec::Stub> stub_;
};

}  // namespace

std::unique_ptr<Connector> make_grpc_connector(const GrpcLinkOptions& options) {
  return std::make_unique<GrpcConnector>(options);
}

}  // namespace hob::edge
