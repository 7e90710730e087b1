// Starts Swagger UI, and makes it use the access token of whoever signs in on this page. Tokens stay in the memory
// of the page: reloading it forgets them.
"use strict";

(() => {
  const SIGNS_IN = /\/v1\/auth\/(register|login|refresh)$/;
  const BEARER = "bearer";
  const caller = document.getElementById("caller");
  let email = null;

  function say(...parts) {
    caller.replaceChildren(...parts.map((part) => (Array.isArray(part) ? emphasize(part[0]) : part)));
  }

  function emphasize(text) {
    const element = document.createElement("strong");
    element.textContent = text;
    return element;
  }

  function sayNobody() {
    say("Not signed in. Execute ", ["POST /v1/auth/login"], " or ", ["register"],
      ": the page then sends the access token with every call by itself, and keeps it in its memory only.");
  }

  function sayBearer() {
    say("Signed in", ...(email ? [" as ", [email]] : [" with an access token"]),
      ". It is sent with every call; reload the page or use Authorize to forget it.");
  }

  // What the server said to a call that signs in.
  function adopt(ui, answer) {
    if (typeof answer.user?.email === "string") {
      email = answer.user.email;
    }
    if (typeof answer.access_token === "string") {
      ui.preauthorizeApiKey(BEARER, answer.access_token);
      return;
    }
    // A token in the header that is not the one in the cookie would be refused.
    ui.authActions.logout([BEARER]);
    say("Signed in", ...(email ? [" as ", [email]] : []), " by cookie, which the browser sends by itself.");
  }

  function forget(ui) {
    email = null;
    ui.authActions.logout([BEARER]);
  }

  // Says so whenever the token changes, be it here or in the Authorize dialog.
  const telling = () => ({
    statePlugins: {
      auth: {
        wrapActions: {
          authorize: (authorize) => (payload) => {
            const done = authorize(payload);
            sayBearer();
            return done;
          },
          logout: (logout) => (names) => {
            const done = logout(names);
            sayNobody();
            return done;
          },
        },
        // Cookies are the browser's: no page can send one that is typed in.
        wrapSelectors: {
          definitionsToAuthorize: (definitions) => (...given) =>
            definitions(...given)?.filter((scheme) => scheme.first()?.get("in") !== "cookie"),
        },
      },
    },
  });

  if (matchMedia("(prefers-color-scheme: dark)").matches) {
    document.documentElement.classList.add("dark-mode");
  }
  sayNobody();
  const ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#api",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    persistAuthorization: false,
    plugins: [telling],
    responseInterceptor: (response) => {
      const path = new URL(response.url, location.href).pathname;
      if (response.ok && SIGNS_IN.test(path) && response.obj) {
        adopt(ui, response.obj);
      } else if (response.status === 204 && path.endsWith("/v1/auth/logout")) {
        forget(ui);
      }
      return response;
    },
    tryItOutEnabled: true,
    validatorUrl: null,
  });
})();
