"""The capture page: `/`, `/forms/{name}` and what a form is answered."""

from __future__ import annotations

import re
import time
from urllib.parse import quote

import msgspec
import uuid_utils
from aiohttp import hdrs, web

from pipeline.dedupe import SUSPECT
from pipeline.web.capture import Capture, Receipt, accepted
from pipeline.web.cors import allow_origin, preflight
from pipeline.web.form import form_page, in_words, received_page, refusal_page
from pipeline.web.form_body import FORM_TYPES, Form
from pipeline.web.forms import FormSpec
from pipeline.web.forms_file import FormsFile
from pipeline.web.pages import wants_html
from pipeline.web.problems import Problem, unsupported
from pipeline.web.submission import submission

__all__ = ["FormPages"]

#: What we give as an id; of a reference from the address of a page nothing else is shown.
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class FormPages:
    """The forms of `forms.toml`: shown, sent, and thanked for."""

    def __init__(self, forms: FormsFile, capture: Capture) -> None:
        self._forms = forms
        self._capture = capture

    def routes(self) -> list[web.RouteDef]:
        """`GET /`, and `GET`, `POST`, `OPTIONS /forms/{name}`, and `GET /forms/{name}/received`; with a GET, HEAD."""
        return [
            web.get("/", self.first),
            web.get("/forms/{name}", self.shown),
            web.post("/forms/{name}", self.send),
            web.options("/forms/{name}", self.asked),
            web.get("/forms/{name}/received", self.received),
        ]

    async def first(self, request: web.Request) -> web.Response:
        """200 with the first form."""
        return form_page(self._forms.first())

    async def shown(self, request: web.Request) -> web.Response:
        """200 with the form."""
        spec = self._spec(request)
        return allow_origin(request, form_page(spec), spec)

    async def asked(self, request: web.Request) -> web.Response:
        """204, and whether the origin may send from a script."""
        return preflight(request, self._spec(request))

    async def received(self, request: web.Request) -> web.Response:
        """200 with thanks, whatever became of the lead: who has an address of this page need not have sent one."""
        reference = request.query.get("reference", "")
        return received_page(self._spec(request), reference if _UUID.fullmatch(reference) else None)

    async def send(self, request: web.Request) -> web.Response:
        """The same as a form to `POST /leads`, but tenant, campaign and source are those of `forms.toml`, and a browser
        is sent on to a page of thanks. A problem has `message`, words for the person at the form.
        """
        spec = self._spec(request)
        form: Form | None = None
        try:
            if request.content_type not in FORM_TYPES:
                raise unsupported(f"Content-Type must be that of a form: {' or '.join(FORM_TYPES)}.")
            with self._capture.hold(request) as held:
                form, message_id = await self._capture.read_form(request, held)
                self._capture.admit(request, held)
                receipt = await self._take(spec, form, message_id)
        except Problem as refusal:
            return allow_origin(request, _refused(request, refusal, form, spec), spec)
        return allow_origin(request, _thanks(spec, receipt) if wants_html(request) else accepted(receipt), spec)

    async def _take(self, spec: FormSpec, form: Form, message_id: str | None) -> Receipt:
        sent = submission(spec, form, time.time_ns() // 1_000_000)
        # Answered as all others are, so that a program does not learn what gave it away.
        headers = ((SUSPECT, sent.suspect),) if sent.suspect else ()
        if message_id is None and not sent.members.get("message_id"):
            # If it is not captured, it comes again under this one: an id that does not say when it was made.
            sent.members["message_id"] = str(uuid_utils.uuid4())
        return await self._capture.capture_one(msgspec.json.encode(sent.members), message_id, headers)

    def _spec(self, request: web.Request) -> FormSpec:
        spec = self._forms.form(request.match_info["name"])
        if spec is None:
            raise Problem(404, "No such form", "There is no form at this address.")
        return spec


def _refused(request: web.Request, problem: Problem, form: Form | None, spec: FormSpec) -> web.Response:
    if wants_html(request):
        return refusal_page(problem, form, spec, spec.url)
    problem.members["message"] = in_words(problem, form, spec)
    return problem.response()


def _thanks(spec: FormSpec, receipt: Receipt) -> web.Response:
    location = f"{spec.url}/received?reference={quote(receipt.message_id, safe='')}"
    return web.Response(status=303, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "no-store"})
