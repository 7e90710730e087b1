// Starts Swagger UI, and makes it use the tokens that signing in on this page has given: the access token goes with every
// call, and the refresh token stands ready in the body of those that take one. Both stay in the memory of the page:
// reloading it forgets them.
"use strict";

(() => {
  const SIGNS_IN = /\/v1\/auth\/(register|login|mfa|refresh)$/;
  const SIGNS_OUT = /\/v1\/auth\/logout$/;
  const BEARER = "bearer";
  const METHODS = ["get", "post", "patch", "delete"];
  // In the order in which a client comes to need them; all others follow by path.
  const IN_ORDER_OF_USE = ["register", "login", "mfa", "refresh", "refresh/confirm", "logout"].map((name) => `/v1/auth/${name}`);
  const TAKE_REFRESH_TOKEN = ["/v1/auth/refresh", "/v1/auth/logout"];
  const caller = document.getElementById("caller");
  // Where the code goes when a log-in asks for a second factor.
  const second = document.getElementById("second");

  // The last answer that signed in: its token, its session and whose it is, as far as known.
  let last = {};
  // The body of the calls that take a refresh token, once there was an answer to tell it from.
  let offered;
  let read = false;

  // Strings, and arrays of one string, which is stressed.
  function say(...parts) {
    caller.replaceChildren(...parts.map((part) => (Array.isArray(part) ? stress(part[0]) : part)));
  }

  function stress(text) {
    const element = document.createElement("strong");
    element.textContent = text;
    return element;
  }

  function sayNotSignedIn() {
    say("Not signed in. Execute ", ["POST /v1/auth/register"], " or ", ["login"],
      ": the page then sends the access token by itself, and keeps it in memory only.");
  }

  function saySignedIn(how) {
    say("Signed in", ...(last.email ? [" as ", [last.email]] : []), ...how);
  }

  function sayToken(token) {
    if (token !== last.token) {
      last = {};
    }
    saySignedIn([": the token goes with every call. To forget it, reload the page or use Authorize."]);
  }

  // The right password of an account with a second factor: the code is asked for beside the line that says who is signed in.
  function askForCode(problem) {
    say("The password is right. Type a code of the second factor, or a recovery code:");
    second.hidden = false;
    second.elements.code.focus();
    second.onsubmit = (event) => {
      event.preventDefault();
      sendCode(problem.mfa_token, second.elements.code.value.trim());
    };
  }

  async function sendCode(mfa_token, typed) {
    const code = /^[\d\s]+$/.test(typed) ? { code: typed } : { recovery_code: typed };
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify({ mfa_token, ...code });
    try {
      const response = await fetch("v1/auth/mfa", { method: "POST", headers, body });
      const answer = await response.json();
      second.reset();
      if (response.ok) {
        adopt(ui, answer);
      } else if (answer.code === "invalid_code" || response.status >= 429) {
        say(answer.detail);
      } else {
        second.hidden = true;
        say(answer.detail);
      }
    } catch {
      say("There is no answer. Try again.");
    }
  }

  // Takes up what the server said to a call that signs in.
  function adopt(ui, answer) {
    second.hidden = true;
    const known = answer.session_id === last.session ? last.email : undefined;
    last = { token: answer.access_token, session: answer.session_id, email: answer.user?.email ?? known };
    offer(ui, { refresh_token: answer.refresh_token });
    if (last.token) {
      const schema = ui.specSelectors.specJson().getIn(["components", "securitySchemes", BEARER]).toJS();
      ui.authActions.authorize({ [BEARER]: { name: BEARER, schema, value: last.token } });
    } else {
      // With a token in the header the cookie would not be looked at.
      dropToken(ui);
      saySignedIn([" by cookie, which the browser sends by itself."]);
    }
  }

  // Puts the refresh token where it is needed next; without one it is a cookie, and the body is empty.
  function offer(ui, body) {
    offered = JSON.stringify(body, null, 2);
    TAKE_REFRESH_TOKEN.forEach((path) =>
      ui.oas3Actions.setRequestBodyValue({ value: offered, pathMethod: [path, "post"] }));
  }

  // A call that is unfolded begins with the example of the document, in which a token is cut short.
  function isExample({ value, pathMethod: [path] }) {
    return TAKE_REFRESH_TOKEN.includes(path) && value?.includes("…");
  }

  function dropToken(ui) {
    if (ui.authSelectors.authorized()?.has(BEARER)) {
      ui.authActions.logout([BEARER]);
    }
  }

  // Says so whenever the token changes, be it here or in the Authorize dialog; and puts what is offered in the place of
  // examples.
  const telling = () => ({
    statePlugins: {
      oas3: {
        wrapActions: {
          setRequestBodyValue: (set) => (given) => set(offered && isExample(given) ? { ...given, value: offered } : given),
        },
      },
      auth: {
        wrapActions: {
          authorize: (authorize) => (given) => {
            const done = authorize(given);
            sayToken(given[BEARER]?.value);
            return done;
          },
          logout: (logout) => (names) => {
            const done = logout(names);
            sayNotSignedIn();
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

  // What every answer has and every call may carry is told once, in the text at the top.
  function withoutCommonplaces(document) {
    const operations = Object.values(document.paths)
      .flatMap((item) => METHODS.map((method) => item[method]))
      .filter(Boolean);
    const answers = [
      ...Object.values(document.components.responses),
      ...operations.flatMap((operation) => Object.values(operation.responses)),
    ].filter((answer) => !answer.$ref);
    const required = (reference) => document.components.headers[reference.$ref.split("/").pop()].required;
    const commonplace = Object.entries(answers[0].headers)
      .filter(([name, header]) => required(header) || answers.every((answer) => name in answer.headers))
      .map(([name]) => name);
    for (const answer of answers) {
      commonplace.forEach((name) => delete answer.headers[name]);
    }
    for (const item of Object.values(document.paths)) {
      delete item.parameters;
    }
    return document;
  }

  function inReadingOrder(one, other) {
    const place = (operation) => (IN_ORDER_OF_USE.indexOf(operation.get("path")) + 1) || Infinity;
    const method = (operation) => METHODS.indexOf(operation.get("method"));
    const [here, there] = [place(one), place(other)];
    if (here !== there) {
      return here < there ? -1 : 1;
    }
    return one.get("path").localeCompare(other.get("path")) || method(one) - method(other);
  }

  if (matchMedia("(prefers-color-scheme: dark)").matches) {
    document.documentElement.classList.add("dark-mode");
  }
  sayNotSignedIn();
  const ui = SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#api",
    deepLinking: true,
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    operationsSorter: inReadingOrder,
    persistAuthorization: false,
    plugins: [telling],
    responseInterceptor: (response) => {
      const path = new URL(response.url, location.href).pathname;
      if (!read && response.ok) {
        // The first answer is the document itself.
        read = true;
        response.text = JSON.stringify(withoutCommonplaces(response.obj));
      } else if (response.ok && SIGNS_IN.test(path)) {
        adopt(ui, response.obj);
      } else if (response.status === 401 && response.obj?.code === "mfa_required") {
        askForCode(response.obj);
      } else if (response.ok && SIGNS_OUT.test(path)) {
        last = {};
        offer(ui, {});
        dropToken(ui);
        sayNotSignedIn();
      }
      return response;
    },
    tryItOutEnabled: true,
    validatorUrl: null,
  });
})();
