#include "edge/grpc_server.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "base/thread.h"
#include "edge/grpc_log.h"
#include "edgespec.grpc.pb.h"
#include "serve/api_error.h"

namespace hob::edge {
namespace {

// Frames that an edge has not taken yet. A verdict per round and two rounds at most: whoever leaves
// more does not read.
constexpr size_t kMostWaitingFrames = 256;

using StreamReactor = grpc::ServerBidiReactor<pb::ClientFrame, pb::ServerFrame>;

const std::string kCertificate = "cert:";  // begins such a principal

// Who the edge is: its key or its certificate. Throws Error.
std::string principal_of(const grpc::CallbackServerContext& context, const ApiKeys& keys) {
  if (!keys.empty()) {
    HeaderList headers;
    for (const auto& [name, value] : context.client_metadata())
      if (name == "authorization")
        headers.emplace_back("Authorization", std::string(value.data(), value.size()));
    return keys.tenant_of(headers);
  }
  const auto auth = context.auth_context();
  if (!auth || !auth->IsPeerAuthenticated()) return "";
  for (const grpc::string_ref& name : auth->GetPeerIdentity())
    return kCertificate + std::string(name.data(), name.size());
  return "";
}

// One stream: reads a frame, hands it on, reads the next; writes what the session sends, one frame
// at a time. gRPC owns it until OnDone().
class StreamCall : public StreamReactor {
 public:
  StreamCall(EdgeServer& server, const std::string& principal, int pad_bytes)
      : pad_bytes_(pad_bytes),
        down_(std::make_shared<Down>(this)),
        stream_(server.connect(principal, down_)) {
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return finish_when_sent(grpc::Status::OK);
    stream_->on_frame(incoming_);
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) queue_.clear();
    write_next();
  }

  void OnCancel() override { finish_when_sent(grpc::Status::CANCELLED); }

  void OnDone() override {
    down_->forget();
    stream_->on_closed();
    delete this;
  }

 private:
  // What the session holds of the stream; outlives it.
  struct Down : FrameSink {
    explicit Down(StreamCall* c) : call(c) {}
    void send(pb::ServerFrame frame) override {
      const std::lock_guard lock(mutex);
      if (call) call->write(std::move(frame));
    }
    void close() override {
      const std::lock_guard lock(mutex);
      if (call) call->finish_when_sent(grpc::Status::OK);
    }
    void forget() {
      const std::lock_guard lock(mutex);
      call = nullptr;
    }
    std::mutex mutex;
    StreamCall* call;
  };

  void write(pb::ServerFrame frame) {
    pad_frame(frame, pad_bytes_);
    const std::lock_guard lock(mutex_);
    if (ending_) return;
    if (queue_.size() >= kMostWaitingFrames) {
      end_ = grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                          "[edge] expected an edge that reads its frames");
      ending_ = true;
    } else {
      queue_.push_back(std::move(frame));
    }
    write_next();
  }

  void finish_when_sent(const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    if (!ending_) end_ = status;
    ending_ = true;
    write_next();
  }

  // Under the mutex.
  void write_next() {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(&queue_.front());
    } else if (ending_) {
      finished_ = true;
      Finish(end_);
    }
  }

  const int pad_bytes_;
  pb::ClientFrame incoming_;
  std::mutex mutex_;
  std::deque<pb::ServerFrame> queue_;
  bool writing_ = false, ending_ = false, finished_ = false;
  grpc::Status end_;
  const std::shared_ptr<Down> down_;
  const std::unique_ptr<ServerStream> stream_;
};

class RefusedCall : public StreamReactor {
 public:
  explicit RefusedCall(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

class Service : public pb::EdgeSpec::CallbackService {
 public:
  Service(EdgeServer& server, const GrpcServerOptions& options)
      : server_(server), options_(options) {}

  grpc::ServerUnaryReactor* GetCapabilities(grpc::CallbackServerContext* context,
                                            const pb::CapabilitiesRequest* request,
                                            pb::Capabilities* reply) override {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    std::string principal;
    grpc::Status status = admit(*context, principal);
    try {
      if (status.ok()) *reply = server_.capabilities(*request);
    } catch (const Error& e) {
      status = {static_cast<grpc::StatusCode>(fault_code(e.code())), e.what()};
    }
    reactor->Finish(status);
    return reactor;
  }

  StreamReactor* Generate(grpc::CallbackServerContext* context) override {
    std::string principal;
    const grpc::Status status = admit(*context, principal);
    if (!status.ok()) return new RefusedCall(status);
    return new StreamCall(server_, principal, options_.pad_bytes);
  }

 private:
  grpc::Status admit(const grpc::CallbackServerContext& context, std::string& principal) const {
    try {
      principal = principal_of(context, options_.keys);
    } catch (const ApiError& e) {
      return {grpc::StatusCode::UNAUTHENTICATED, e.what()};
    }
    for (const std::string& name : options_.denied)
      if (principal == kCertificate + name)
        return {grpc::StatusCode::PERMISSION_DENIED,
                "[edge] expected a certificate that has not been withdrawn"};
    return grpc::Status::OK;
  }

  EdgeServer& server_;
  const GrpcServerOptions& options_;
};

std::shared_ptr<grpc::ServerCredentials> credentials(const GrpcServerOptions& o) {
  if (o.certificate.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions tls(
      o.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                          : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  tls.pem_root_certs = o.client_ca;
  tls.pem_key_cert_pairs.push_back({o.key, o.certificate});
  return grpc::SslServerCredentials(tls);
}

}  // namespace

struct GrpcServer::Impl {
  Impl(EdgeServer& s, const GrpcServerOptions& o) : options(o), service(s, options) {}
  void listen(EdgeServer& server);

  const GrpcServerOptions options;
  Service service;
  int port = 0;
  std::unique_ptr<grpc::Server> server;
  std::mutex mutex;
  std::condition_variable wake;
  bool stopping = false;
  std::thread expiry;
};

void GrpcServer::Impl::listen(EdgeServer& edge_server) {
  constexpr int kLeastPingMs = 4'000;  // edges ping every 10 s at most, without data too
  const bool v6 = options.host.find(':') != std::string::npos;
  const std::string address =
      fmt::format("{}{}{}:{}", v6 ? "[" : "", options.host, v6 ? "]" : "", options.port);
  silence_grpc();
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, credentials(options), &port);
  builder.RegisterService(&service);
  builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_frame_bytes));
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kLeastPingMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  server = builder.BuildAndStart();
  if (!server || port == 0)
    fail(Code::kIo, "[edge] expected to listen on {}, the system refuses", address);
  expiry = start_thread("the edge server", [this, &edge_server] {
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, std::chrono::seconds(1), [this] { return stopping; }))
      edge_server.expire();
  });
}

GrpcServer::GrpcServer(EdgeServer& server, const GrpcServerOptions& options)
    : impl_(std::make_unique<Impl>(server, options)) {
  impl_->listen(server);
}

GrpcServer::~GrpcServer() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  if (impl_->expiry.joinable()) impl_->expiry.join();
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  impl_->server->Wait();
}

int GrpcServer::port() const { return impl_->port; }

}  // namespace hob::edge
