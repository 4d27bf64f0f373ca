// Sign-in at an identity provider: OpenID Connect's authorization code flow with PKCE (RFC 7636).

const KEPT = "sayso.oidc";  // between leaving for the issuer and coming back

let issuer = null;

// Whether the gateway names an issuer to sign in at.
export async function loadIssuer() {
  issuer = await fetch("config.json").then((answer) => answer.json());
  return Boolean(issuer.issuer);
}

// Leaves this page; the issuer sends the browser back with a code.
export async function goToIssuer() {
  const {authorization_endpoint: endpoint} = await discover();
  const [state, verifier] = [makeRandom(), makeRandom()];
  sessionStorage.setItem(KEPT, JSON.stringify({state, verifier}));
  const address = new URL(endpoint);
  const asked = {
    response_type: "code", client_id: issuer.client_id, redirect_uri: getReturnAddress(), scope: issuer.scope, state,
    code_challenge: await digest(verifier), code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(asked)) address.searchParams.set(name, value);
  location.assign(address);
}

// The access token, if the issuer has just sent the browser back; empty if it has not. Rejects if
// the issuer refused, or did not answer to what this tab has asked.
export async function takeToken() {
  const query = new URLSearchParams(location.search);
  if (!query.has("state")) return "";
  history.replaceState(null, "", location.pathname);  // a code is of no use in the history
  const {state, verifier} = JSON.parse(sessionStorage.getItem(KEPT) ?? "{}");
  sessionStorage.removeItem(KEPT);
  if (!state || state !== query.get("state")) throw new Error("state");
  if (!query.has("code")) throw new Error(query.get("error_description") ?? query.get("error") ?? "code");
  const {token_endpoint: endpoint} = await discover();
  const body = new URLSearchParams({
    grant_type: "authorization_code", code: query.get("code"), redirect_uri: getReturnAddress(),
    client_id: issuer.client_id, code_verifier: verifier,
  });
  const answer = await fetch(endpoint, {method: "POST", body});
  const read = await answer.json().catch(() => ({}));
  if (!answer.ok || !read.access_token) throw new Error(read.error_description ?? read.error ?? `HTTP ${answer.status}`);
  return read.access_token;
}

async function discover() {
  const answer = await fetch(`${issuer.issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  const found = await answer.json();
  if (found.issuer !== issuer.issuer) throw new Error("issuer");
  return found;
}

const getReturnAddress = () => `${location.origin}/console/`;
const makeRandom = () => encode(crypto.getRandomValues(new Uint8Array(32)));
const digest = async (text) => encode(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
const encode = (bytes) => btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
