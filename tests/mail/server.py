"""A mail server that does as GIVEN (JSON) says. Prints its port, then each message that it takes, as one line of JSON."""

import asyncio
import email
import email.policy
import json
import logging
import os
import ssl
import warnings

from aiosmtpd.smtp import SMTP, AuthResult

# That a log-in without TLS is unwise is the point of some tests.
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

given = json.loads(os.environ["GIVEN"])


def say(what):
    print(json.dumps(what), flush=True)


def parsed(raw):
    # Headers may be UTF-8 (RFC 6532); what is encoded is encoded in ASCII.
    message = email.message_from_string(raw.decode(), policy=email.policy.SMTPUTF8)
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    return {
        "headers": [[name, str(value)] for name, value in message.items()],
        "to": [address.addr_spec for address in message["To"].addresses],
        "from": [[address.display_name, address.addr_spec] for address in message["From"].addresses],
        "type": message.get_content_type(),
        "text": plain and plain.get_content().replace("\r\n", "\n"),
        "html": html and html.get_content().replace("\r\n", "\n"),
        "defects": [str(defect) for part in message.walk() for defect in part.defects],
        "ascii": raw.isascii(),
        "longest": max(len(line) for line in raw.split(b"\r\n")),
        "bare": raw.replace(b"\r\n", b"").count(b"\n") + raw.replace(b"\r\n", b"").count(b"\r"),
    }


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if "rcpt" in given:
            return given["rcpt"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if "data" in given:
            return given["data"]
        say({
            "sender": envelope.mail_from,
            "recipients": envelope.rcpt_tos,
            "options": envelope.mail_options,
            "tls": session.ssl is not None or bool(given.get("implicit")),
            "login": session.auth_data,
            **parsed(envelope.content),
        })
        return "250 OK"


class Server(SMTP):
    async def smtp_DATA(self, arg):
        if not given.get("dies"):
            return await super().smtp_DATA(arg)
        await self.push("354 go on")
        self.transport.close()

    async def smtp_MAIL(self, arg):
        if "mail" in given:
            return await self.push(given["mail"])
        return await super().smtp_MAIL(arg)


def authenticate(server, session, envelope, mechanism, data):
    login = [data.login.decode(), data.password.decode()]
    say({"login": login})
    return AuthResult(success=login == given["login"], handled=False, auth_data=login[0])


def server(context):
    starttls = context if given.get("starttls") else None
    login = {"authenticator": authenticate, "auth_required": True, "auth_require_tls": False} if "login" in given else {}
    return Server(Handler(), enable_SMTPUTF8=given.get("smtputf8", True), tls_context=starttls, hostname="test", **login)


async def main():
    context = None
    if "certificate" in given:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(given["certificate"], given["key"])
    implicit = context if given.get("implicit") else None
    listening = await asyncio.get_running_loop().create_server(
        lambda: server(context), given.get("host", "127.0.0.1"), 0, ssl=implicit
    )
    say(listening.sockets[0].getsockname()[1])
    await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
