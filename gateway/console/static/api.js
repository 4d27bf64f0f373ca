// REST and events of the gateway that served this page, with the key of who signed in.

const KEY = "sayso.key";

export class ApiError extends Error {
  constructor(code, status) {
    super(status.message ?? `HTTP ${code}`);
    this.code = code;
    this.details = status.details ?? [];
  }
}

export const getKey = () => sessionStorage.getItem(KEY) ?? "";
export const keepKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

const shown = () => (getKey() ? {authorization: `Bearer ${getKey()}`} : {});

export async function call(verb, path, body) {
  const headers = shown();
  if (verb !== "GET" && verb !== "DELETE") headers["content-type"] = "application/json";
  const sent = body === undefined && headers["content-type"] ? {} : body;
  const answer = await fetch(path, {method: verb, headers, body: sent && JSON.stringify(sent)});
  const read = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new ApiError(answer.status, read);
  return read;
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const speakerPath = (id, verb = "") => `/v1/speakers/${escape(id)}${verb && `:${verb}`}`;
export const groupPath = (name, verb = "") => `/v1/groups/${escape(name)}${verb && `:${verb}`}`;

const escape = encodeURIComponent;

// The roles of the key. The API does not say them, so each is asked for something that changes
// nothing and is refused for another reason, or answered, if the role is there. Rejects if the key
// is none.
export async function findRoles() {
  const unspeakable = "%01";  // no id may have control characters
  const asked = {
    verify: () => get("/v1/server"),
    enroll: () => get("/v1/speakers?page_size=1"),
    admin: () => get(`/v1/speakers/${unspeakable}:export`),
    confirm: () => post(`/v1/speakers/${unspeakable}:confirmEnrollment`),
    analyze: () => post("/v1/embeddings:compare"),
    watch: () => openEvents("").then((events) => events.close()),
  };
  const found = await Promise.all(Object.entries(asked).map(async ([role, ask]) => {
    try {
      await ask();
    } catch (error) {
      if (!(error instanceof ApiError) || error.code === 401 || error.code >= 500) throw error;
      if (error.code === 403) return null;
    }
    return role;
  }));
  return new Set(found.filter(Boolean));
}

// Server-sent events; EventSource could not show a key. Rejects if they are refused.
async function openEvents(query) {
  const stop = new AbortController();
  const answer = await fetch(`/v1/events:watch${query}`, {headers: shown(), signal: stop.signal});
  if (!answer.ok) throw new ApiError(answer.status, await answer.json().catch(() => ({})));
  return {
    body: answer.body.pipeThrough(new TextDecoderStream()),
    close: () => stop.abort(),
  };
}

// Tells of all events that are kept and then of those that come, until `signal`; goes on where it
// was when the connection is lost. `react` has take(event), lose(count) and connect(whether).
export async function watchEvents(react, signal) {
  let token = "";
  while (!signal.aborted) {
    try {
      const query = token ? `?resume_token=${escape(token)}` : "?from_oldest=true";
      const events = await openEvents(query);
      signal.addEventListener("abort", events.close, {once: true});
      react.connect(true);
      for await (const {id, type, data} of readEvents(events.body)) {
        if (type === "lost") react.lose(Number(JSON.parse(data).lost_events));
        else if (type === "message" && data) react.take(JSON.parse(data));
        if (id) token = id;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.code < 500) throw error;
    }
    react.connect(false);
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

async function* readEvents(stream) {
  let left = "";
  for await (const text of readAll(stream)) {
    const blocks = (left + text).split("\n\n");
    left = blocks.pop();
    for (const block of blocks) {
      const event = {id: "", type: "message", data: ""};
      for (const line of block.split("\n")) {
        const [name, value] = [line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)];
        if (name === "event") event.type = value;
        else if (name in event) event[name] = value;
      }
      yield event;
    }
  }
}

async function* readAll(stream) {
  const reader = stream.getReader();
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    yield value;
  }
}
