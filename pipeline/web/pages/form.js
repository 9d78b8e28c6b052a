// A form is sent without leaving the page, and kept in this browser until it has arrived. Without this it works, too.
(() => {
  "use strict";

  const LEADS_MAX = 20;
  const KEPT_MAX_BYTES = 256 * 1024;
  // Browsers send at most 64 KiB after a page is gone.
  const KEEPALIVE_MAX_BYTES = 60000;
  const TIMEOUT_MS = 30000;
  const RETRY_FIRST_S = 2;
  const RETRY_MAX_S = 300;
  // What is much longer a browser waits for not at all.
  const RETRY_AFTER_MAX_S = 86400;
  const PREFIX = "lead:";
  const WORDS = {
    thanks: "Thank you",
    text: "We have received it.",
    reference: "Reference",
    again: "Send something else",
    sending: "Sending …",
    either: "Enter an email address or a phone number.",
    kept: "Not confirmed yet",
    keptText: "It may not have arrived. It is kept in this browser and sent again until it has: while this page is open, and when you next visit it. It counts once.",
    notKept: "It may not have arrived, and this browser cannot keep it. Please leave this page open and send it again in a moment. It counts once.",
    refused: "It was refused. Please look at it again.",
  };
  const script = new URL(document.currentScript.src);
  const origin = script.origin;
  const forms = [];
  const sending = new Set();

  // What is kept: each lead under a key of its own, so that two tabs cannot overwrite each other's.

  const keys = () => {
    const found = [];
    for (let number = 0; number < localStorage.length; number++) {
      const key = localStorage.key(number);
      if (key.startsWith(PREFIX)) found.push(key);
    }
    return found.sort();
  };

  const all = () => {
    try {
      return keys();
    } catch {
      return [];
    }
  };

  const read = (key) => {
    try {
      return JSON.parse(localStorage.getItem(key));
    } catch {
      return null;
    }
  };

  // False: there is no room, or the browser keeps nothing.
  const keep = (id, entry) => {
    try {
      const value = JSON.stringify(entry);
      const others = keys().filter((key) => key !== PREFIX + id);
      const size = others.reduce((sum, key) => sum + localStorage.getItem(key).length, value.length);
      if (others.length >= LEADS_MAX || size > KEPT_MAX_BYTES) return false;
      localStorage.setItem(PREFIX + id, value);
      return true;
    } catch {
      return false;
    }
  };

  const drop = (id) => {
    try {
      localStorage.removeItem(PREFIX + id);
    } catch {
      // It was not kept either.
    }
  };

  // Sending: accepted, refused for good, or to be tried later, after so many seconds.

  const post = async (id, url, body) => {
    sending.add(id);
    try {
      const answer = await fetch(url, {
        method: "POST",
        body,
        keepalive: body.length < KEEPALIVE_MAX_BYTES,
        // Safari has it since 2022; without it a request ends when the browser says so.
        signal: AbortSignal.timeout ? AbortSignal.timeout(TIMEOUT_MS) : undefined,
        credentials: "omit",
        headers: { "Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8" },
      });
      const type = answer.headers.get("Content-Type") || "";
      if (answer.status === 202) return { accepted: true };
      const isFinal = answer.status >= 400 && answer.status < 500 && ![408, 425, 429].includes(answer.status);
      // What is no problem of ours comes from something in between.
      if (isFinal && type.startsWith("application/problem+json")) return { refused: await answer.json() };
      return { later: Math.min(Number(answer.headers.get("Retry-After")) || 0, RETRY_AFTER_MAX_S) };
    } catch {
      return { later: 0 };
    } finally {
      sending.delete(id);
    }
  };

  let timer;
  let delay_s = RETRY_FIRST_S;
  let isTrying = false;

  const later = (after_s) => {
    clearTimeout(timer);
    const wait_s = Math.max(after_s, delay_s * (0.5 + Math.random() / 2));
    delay_s = Math.min(2 * delay_s, RETRY_MAX_S);
    timer = setTimeout(tryAll, 1000 * wait_s);
  };

  const tryAll = async () => {
    if (isTrying) return;
    isTrying = true;
    clearTimeout(timer);
    try {
      for (const key of all()) {
        const id = key.slice(PREFIX.length);
        const entry = read(key);
        // On another site others keep things, too.
        if (!entry || typeof entry.body !== "string" || !String(entry.url).startsWith(origin + "/") || sending.has(id)) continue;
        if (entry.problem) {
          give(id, entry);
          continue;
        }
        const result = await post(id, entry.url, entry.body);
        if ("later" in result) return later(result.later);
        settle(id, entry, result);
      }
      delay_s = RETRY_FIRST_S;
    } finally {
      isTrying = false;
    }
  };

  const settle = (id, entry, result) => {
    if (result.accepted) {
      drop(id);
      forms.filter((form) => form.waitsFor === id).forEach((form) => form.thank(id));
    } else {
      const refused = { ...entry, problem: result.refused };
      keep(id, refused);
      give(id, refused);
    }
  };

  // What was refused goes back into its form, if nobody writes there; else it waits for the next visit.
  const give = (id, entry) => {
    const form = forms.find((one) => one.url === entry.url && (one.waitsFor === id || one.isUntouched()));
    if (form) {
      drop(id);
      form.restore(id, entry);
    }
  };

  // The clock of the server, by the time in the id that it made with the page; null: the id is not of ours.
  const clockOf = (id) => (/^[0-9a-f]{8}-[0-9a-f]{4}-7/.test(id) ? parseInt(id.slice(0, 8) + id.slice(9, 13), 16) - Date.now() : null);

  // A UUIDv7 by the clock of the server; without that a UUIDv4, because a time of this clock would say nothing there.
  const newId = (clock) => {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    if (clock !== null) {
      let time = Date.now() + clock;
      for (let at = 5; at >= 0; at--) {
        bytes[at] = time % 256;
        time = Math.floor(time / 256);
      }
    }
    bytes[6] = (bytes[6] & 15) | (clock === null ? 64 : 112);
    bytes[8] = (bytes[8] & 63) | 128;
    const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  };

  const element = (name, members, ...children) => {
    const made = Object.assign(document.createElement(name), members);
    made.append(...children);
    return made;
  };

  class Form {
    constructor(form, url) {
      this.form = form;
      this.url = url;
      this.waitsFor = null;
      this.words = { ...WORDS, ...JSON.parse(form.dataset.words || "{}") };
      this.id = form.elements.message_id || form.appendChild(element("input", { type: "hidden", name: "message_id" }));
      this.clock = clockOf(this.id.value);
      this.id.value ||= newId(this.clock);
      this.number = forms.length;
      this.isUnsure = false;
      // Of our own pages: another site has its own.
      this.alert = location.origin === origin ? form.parentNode.querySelector(".alert") : null;
      this.news = form.appendChild(element("p", { className: "news" }));
      this.news.setAttribute("role", "status");
      form.noValidate = true;
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        this.send();
      });
      form.addEventListener("input", (event) => {
        this.clear(event.target);
        // What may have arrived must not come again as something else under its id.
        if (this.isUnsure) this.id.value = newId(null);
        this.isUnsure = false;
      });
    }

    controls() {
      return Array.from(this.form.elements).filter((one) => one.name && one.type !== "hidden" && one.tabIndex >= 0);
    }

    // As the page was made. One that shows something else that was sent is not.
    isUntouched() {
      const isAsMade = (one) => {
        if (one.type === "checkbox" || one.type === "radio") return one.checked === one.defaultChecked;
        if (one.options) return one.selectedIndex <= Math.max(0, Array.from(one.options).findIndex((it) => it.defaultSelected));
        return one.value === one.defaultValue;
      };
      const shown = this.controls();
      return this.waitsFor === null && !this.form.hidden && !this.alert && shown.length > 0 && shown.every(isAsMade);
    }

    async send() {
      if (sending.has(this.id.value) || this.isFlawed()) return;
      const id = this.id.value;
      const body = new URLSearchParams(new FormData(this.form)).toString();
      const entry = { url: this.url, body };
      // Before it is sent, so that it outlives a tab that is closed too early.
      const isKept = keep(id, entry);
      this.busy(true);
      const result = await post(id, this.url, body);
      this.busy(false);
      if (result.accepted) {
        drop(id);
        this.thank(id);
        tryAll();
      } else if (result.refused) {
        drop(id);
        this.refuse(result.refused);
      } else if (isKept) {
        this.wait(id);
        later(result.later);
      } else {
        this.isUnsure = true;
        this.tell(this.words.notKept);
      }
    }

    busy(is) {
      const button = this.form.querySelector("[type=submit], button:not([type])");
      if (button) button.setAttribute("aria-disabled", is);
      this.tell(is ? this.words.sending : "");
    }

    tell(text) {
      this.news.textContent = text;
    }

    // What the browser itself finds wrong, in its words, beside each field; the first one gets the focus.
    isFlawed() {
      this.controls().forEach((one) => this.clear(one));
      const flawed = this.controls().filter((one) => one.willValidate && !one.validity.valid);
      flawed.forEach((one) => this.mark(one, one.validationMessage));
      const { email, phone } = this.form.elements;
      if (!flawed.length && email && phone && !email.value.trim() && !phone.value.trim()) {
        this.mark(email, this.words.either);
        flawed.push(email);
      }
      if (flawed.length) flawed[0].focus();
      return flawed.length > 0;
    }

    refuse(problem) {
      const text = problem.message || this.words.refused;
      const control = this.controls().find((one) => one.name === problem.field);
      if (problem.field === "message_id") this.id.value = newId(this.clock);
      if (!control) return this.tell(text);
      this.mark(control, text);
      control.focus();
    }

    errorOf(control) {
      control.id ||= `lead-${this.number}-${control.name}`;
      return document.getElementById(`${control.id}-error`);
    }

    mark(control, text) {
      let error = this.errorOf(control);
      if (!error) {
        error = element("span", { className: "error", id: `${control.id}-error` });
        control.before(error);
      }
      error.textContent = text;
      control.setAttribute("aria-invalid", "true");
      this.describe(control, error.id, true);
    }

    clear(control) {
      const error = control.name && this.errorOf(control);
      if (!error) return;
      error.remove();
      control.removeAttribute("aria-invalid");
      this.describe(control, `${control.id}-error`, false);
    }

    describe(control, id, is) {
      const ids = (control.getAttribute("aria-describedby") || "").split(" ").filter((one) => one && one !== id);
      control.setAttribute("aria-describedby", (is ? [...ids, id] : ids).join(" "));
    }

    thank(id) {
      const text = element("p", { textContent: this.form.dataset.thanks || this.words.text });
      const reference = element("p", { className: "reference" }, `${this.words.reference} `, element("span", { textContent: id }));
      this.show(this.words.thanks, text, reference);
    }

    wait(id) {
      this.show(this.words.kept, element("p", { textContent: this.words.keptText }));
      this.panel.classList.add("waiting");
      this.waitsFor = id;
    }

    // In place of the form; the focus goes there, so that it is read aloud.
    show(heading, ...parts) {
      const again = element("button", { type: "button", className: "again", textContent: this.words.again });
      again.addEventListener("click", () => this.begin());
      const panel = element("section", { className: "done", tabIndex: -1 }, element("h2", { textContent: heading }), ...parts, again);
      panel.setAttribute("aria-live", "polite");
      if (this.alert) this.alert.remove();
      if (this.panel) this.panel.remove();
      this.panel = panel;
      this.waitsFor = null;
      this.isUnsure = false;
      this.form.hidden = true;
      this.form.after(panel);
      panel.focus();
    }

    // The form again, empty, and with an id of its own.
    begin() {
      // Of a form that was refused before, an empty one is what was sent.
      if (this.alert) return location.assign(this.url);
      this.empty();
      const [first] = this.controls();
      if (first) first.focus();
      tryAll();
    }

    empty() {
      if (this.panel) this.panel.remove();
      this.panel = null;
      this.waitsFor = null;
      this.controls().forEach((one) => this.clear(one));
      this.form.reset();
      this.id.value = newId(this.clock);
      this.form.hidden = false;
    }

    restore(id, entry) {
      if (this.panel) this.empty();
      const isTicked = (one) => one.type === "checkbox" || one.type === "radio";
      for (const [name, value] of new URLSearchParams(entry.body)) {
        const control = this.controls().find((one) => one.name === name && (!isTicked(one) || one.value === value));
        if (control && isTicked(control)) control.checked = true;
        else if (control) control.value = value;
      }
      this.id.value = id;
      this.refuse(entry.problem);
    }
  }

  const enhance = async (form) => {
    const url = new URL(form.getAttribute("action"), document.baseURI);
    if (url.origin !== origin || !url.pathname.startsWith("/forms/") || form.method !== "post") return;
    // A site that is not among the origins of the form could not read an answer: its form stays a plain one.
    if (url.origin !== location.origin && !(await fetch(url, { method: "HEAD", credentials: "omit" }).catch(() => null))) return;
    forms.push(new Form(form, url.href));
  };

  const begin = async () => {
    await Promise.all(Array.from(document.forms, enhance));
    if (forms.length) tryAll();
  };

  addEventListener("online", () => {
    delay_s = RETRY_FIRST_S;
    tryAll();
  });
  // Another tab has sent it.
  addEventListener("storage", (event) => {
    if (!event.key || !event.key.startsWith(PREFIX) || event.newValue !== null || JSON.parse(event.oldValue).problem) return;
    const id = event.key.slice(PREFIX.length);
    forms.filter((form) => form.waitsFor === id).forEach((form) => form.thank(id));
  });
  // The page is painted first; until then its button works as it does without this.
  const beginAfterPaint = () => (document.hidden ? begin() : requestAnimationFrame(() => setTimeout(begin)));
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", beginAfterPaint);
  else beginAfterPaint();
})();
