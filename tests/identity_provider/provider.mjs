// Runs `oidc-provider` on a free port of the loopback interface until standard input closes.
// Prints its address. Resources choose what kind of access token they get.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { Provider } from "oidc-provider";

const KINDS = [
  ["RS256", "rsa", { modulusLength: 2048 }],
  ["ES256", "ec", { namedCurve: "P-256" }],
  ["EdDSA", "ed25519", {}],
];
const keys = KINDS.map(([alg, kind, options]) => ({
  ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
  ...{ alg, kid: alg, use: "sig" },
}));

const resource = (indicator) => {
  const format = indicator.split("/").at(-1);
  const common = { scope: "generate read", audience: "inferflux", accessTokenTTL: 300 };
  if (format === "opaque") return { ...common, accessTokenFormat: "opaque" };
  if (format === "short") return { ...common, accessTokenFormat: "opaque", accessTokenTTL: 5 };
  return { ...common, accessTokenFormat: "jwt", jwt: { sign: { alg: format } } };
};

const machine = (id) => ({ client_id: id, client_secret: `${id}-secret`, redirect_uris: [], response_types: [] });
const configuration = {
  jwks: { keys },
  cookies: { keys: ["for tests only"] },
  clients: [
    { ...machine("robot"), grant_types: ["client_credentials"] },
    { ...machine("server"), grant_types: [] },
    {
      client_id: "inferctl",
      token_endpoint_auth_method: "none",
      application_type: "native",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  extraTokenClaims: () => ({ realm_access: { roles: ["operators"] } }),
  issueRefreshToken: (_, client) => client.clientId === "inferctl",
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (_, client) => client.clientId === "server" },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, indicator) => resource(indicator),
      useGrantedResource: () => true,
    },
  },
};

const server = createServer().listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(url, configuration);
  provider.on("server_error", (_, error) => console.error(error));
  server.on("request", provider.callback());
  console.log(url);
});
process.stdin.resume().on("end", () => process.exit());
