// Charges with k6, over gRPC and through the gateway:
//   k6 run -e KEY=mk_... -e ENDPOINTS=ep_...,ep_... -e NETWORK=net_20601 tests/load/charge.js
// GRPC and HTTP say where (localhost:7004, http://localhost:8080), VUS and DURATION how much (16 callers, 10s each).
// The thresholds fail the run (exit status 99) if a single call fails or is not charged, or if
// one of the three ways charges nothing, or if the slowest hundredth takes longer than P99_MS (2000).
import { check } from "k6";
import exec from "k6/execution";
import grpc from "k6/net/grpc";
import http from "k6/http";
import { Counter } from "k6/metrics";

const endpoints = (__ENV.ENDPOINTS || "").split(",");
const http_address = __ENV.HTTP || "http://localhost:8080";
const authorization = `Bearer ${__ENV.KEY}`;
const started = __ENV.RUN || `${Date.now()}`;
const slowest = `p(99)<${__ENV.P99_MS || 2000}`;
const load = { executor: "constant-vus", vus: Number(__ENV.VUS || 16), duration: __ENV.DURATION || "10s" };

export const charged = new Counter("charged");
export const options = {
  scenarios: {
    unary: { ...load, exec: "unary" },
    batches: { ...load, exec: "batches", vus: Math.max(1, Math.floor(load.vus / 8)) },
    gateway: { ...load, exec: "gateway", vus: Math.max(1, Math.floor(load.vus / 4)) },
  },
  thresholds: {
    checks: ["rate==1"],
    "charged{scenario:unary}": ["count>0"],
    "charged{scenario:batches}": ["count>0"],
    "charged{scenario:gateway}": ["count>0"],
    http_req_failed: ["rate==0"],
    grpc_req_duration: [slowest],
    http_req_duration: [slowest],
  },
  summaryTrendStats: ["med", "p(90)", "p(99)", "max"],
};

const client = new grpc.Client();
let connected = false;

export function setup() {
  // k6 panics ("is already registered") when several callers are the first to read one contract by reflection
  // (grafana/k6 issue 3961): one reads it before all others.
  connect();
  client.close();
}

function connect() {
  // The server tells its contracts by reflection; no .proto file is needed here.
  client.connect(__ENV.GRPC || "localhost:7004", { plaintext: true, reflect: true });
}

function event(place) {
  const { idInTest } = exec.vu;
  return {
    event_id: `k6-${started}-${idInTest}-${exec.vu.iterationInInstance}-${place}`,
    endpoint_id: endpoints[(idInTest + place) % endpoints.length],
    service: "SERVICE_DATA",
    network_id: __ENV.NETWORK || "net_20601",
    access_type: "ACCESS_TYPE_4G",
    usage_time_ms: `${Date.now()}`,
    quantity: "1000",
    mode: "USAGE_MODE_ONLINE",
  };
}

function invoke(method, request) {
  if (!connected) {
    connect();
    connected = true;
  }
  const params = { metadata: { authorization }, timeout: "10s" };
  return client.invoke(`meterline.rating.v1.ChargingService/${method}`, request, params);
}

function counted(kind, status_is_good, results, answer) {
  const good = results.filter((result) => result && result.outcome === "OUTCOME_CHARGED").length;
  if (good !== results.length) {
    console.error(`${kind}: ${answer.status} ${JSON.stringify(answer.error || answer.message || answer.body)}`);
  }
  check(null, { [`${kind} answered`]: () => status_is_good, [`${kind} charged`]: () => good === results.length });
  charged.add(good);
}

export function unary() {
  const answer = invoke("ChargeEvent", { event: event(0) });
  counted("unary", answer.status === grpc.StatusOK, [answer.message], answer);
}

export function batches() {
  const answer = invoke("ChargeUsage", { events: [...Array(100).keys()].map(event) });
  counted("batch", answer.status === grpc.StatusOK, (answer.message && answer.message.results) || [null], answer);
}

export function gateway() {
  const params = { headers: { authorization, "content-type": "application/json" }, timeout: "10s" };
  const answer = http.post(`${http_address}/v1/events:charge`, JSON.stringify(event(0)), params);
  counted("gateway", answer.status === 200, [answer.status === 200 ? answer.json() : null], answer);
}
