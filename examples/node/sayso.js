// Connects to a Sayso server: a client made from the protos as they are loaded, no generated code.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const here = fileURLToPath(new URL(".", import.meta.url));
const definition = protoLoader.loadSync(
  ["sayso/v1/verification.proto", "google/rpc/status.proto", "error_info.proto"],
  { includeDirs: [`${here}../../protos`, here], enums: String, longs: Number, defaults: true, oneofs: true },
);
const { VerificationService } = grpc.loadPackageDefinition(definition).sayso.v1;

const CHANNEL_OPTIONS = {
  // A connection whose other end is gone is noticed within 15 s.
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 5_000,
  // Spread calls over all servers that the name resolves to.
  "grpc.service_config": JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] }),
};

/** Opens a client of the server that the environment names, with TLS if it names a CA. */
export function connect({
  SAYSO_SERVER: server = "127.0.0.1:50051",
  SAYSO_CA: ca,
  SAYSO_CREDENTIAL: credential,
} = process.env) {
  if (credential && !ca && !/^(localhost|127\.0\.0\.1):/.test(server)) {
    throw new Error(`a credential would go to ${server} in plaintext; set SAYSO_CA`);
  }
  const security = ca ? grpc.credentials.createSsl(readFileSync(ca)) : grpc.credentials.createInsecure();
  const showCredential = (options, nextCall) =>
    new grpc.InterceptingCall(nextCall(options), {
      start(metadata, listener, next) {
        if (credential) metadata.set("authorization", `Bearer ${credential}`);
        next(metadata, listener);
      },
    });
  return new VerificationService(server, security, { ...CHANNEL_OPTIONS, interceptors: [showCredential] });
}

/** Calls a unary method and resolves to its response. */
export function call(client, method, request) {
  const deadline = Date.now() + 30_000;
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** The stable name of an error, such as SPEAKER_LOCKED, or "" if the error did not come from Sayso. */
export function readReason(error) {
  const [packed] = error.metadata?.get("grpc-status-details-bin") ?? [];
  if (!packed) return "";
  const { details } = definition["google.rpc.Status"].deserialize(packed);
  const info = details.find((detail) => detail.type_url.endsWith("/google.rpc.ErrorInfo"));
  return info ? definition["google.rpc.ErrorInfo"].deserialize(info.value).reason : "";
}
