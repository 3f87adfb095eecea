// @ts-check
// While the program runs, and what comes of it.

import { download, h } from "./dom.js";
import { leaveButton, notes, people } from "./table.js";
import { seconds, t } from "./texts.js";

/**
 * @param {any} session
 * @returns {import("./screens.js").Screen}
 */
export function computing(session) {
  return {
    key: "computing",
    title: t("computing.title"),
    build: (_state, context) => [
      h("h1", {}, t("computing.title")),
      h("p", {}, session.estimate_s === null
        ? t("computing.what")
        : t("computing.estimate", { for: seconds(session.estimate_s) })),
      people(context),
      notes(context),
      leaveButton(context),
    ],
  };
}

/**
 * @param {any} session
 * @returns {import("./screens.js").Screen}
 */
export function result(session) {
  const { text, is_cut, flaw, receipt } = session.result;
  return {
    key: `result ${session.computation}`,
    title: t("result.title"),
    build: (_state, context) => [
      h("h1", {}, t("result.title")),
      flaw !== "" && h("p", { class: "panel warn" }, flaw),
      h("figure", { class: "panel foreign" },
        h("figcaption", {}, t("result.foreign")),
        h("pre", { "data-testid": "output", tabindex: "0" }, text)),
      is_cut && h("p", { class: "quiet" }, t("result.cut")),
      receipt !== "" && h("p", {}, t("result.receipt", { file: receipt })),
      h("p", { class: "row" },
        session.hosts && h("button", {
          class: "main", "data-testid": "again", onclick: () => context.send({ intent: "again" }),
        }, t("result.again")),
        h("button", { "data-testid": "save", onclick: () => download("result.txt", text, "text/plain") }, t("result.save"))),
      !session.hosts && h("p", { class: "quiet" }, t("result.wait")),
      notes(context),
      leaveButton(context),
    ],
  };
}

/**
 * @param {any} session
 * @returns {import("./screens.js").Screen}
 */
export function over(session) {
  const failure = session.failure;
  return {
    key: "over",
    title: t("over.title"),
    build: (_state, context) => [
      h("h1", {}, t(failure === null ? "over.title" : "over.failed")),
      failure !== null && h("p", { class: "panel", "data-testid": "failure" }, failure.sentence),
      failure !== null && failure.hint !== "" && h("p", {}, failure.hint),
      failure !== null && failure.revealed !== null
        && h("p", {}, t(failure.revealed ? "over.revealed" : "over.nothing")),
      session.result !== null && h("figure", { class: "panel foreign" },
        h("figcaption", {}, t("result.foreign")),
        h("pre", { "data-testid": "output", tabindex: "0" }, session.result.text)),
      notes(context),
      h("button", {
        class: "main", "data-testid": "clear",
        onclick: () => { location.hash = "#/"; context.send({ intent: "clear" }); },
      }, t("over.start")),
    ],
  };
}
