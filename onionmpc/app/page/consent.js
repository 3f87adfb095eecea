// @ts-check
// What this person agrees to, and what its program gets.

import { h } from "./dom.js";
import { leaveButton, notes, people } from "./table.js";
import { t } from "./texts.js";

/**
 * @param {any} session
 * @returns {import("./screens.js").Screen}
 */
export function consent(session) {
  const view = session.consent;
  return {
    key: `consent ${view.shown}`,
    title: t("consent.title"),
    build: (_state, context) => {
      const answer = (/** @type {boolean} */ agree) =>
        context.send({ intent: "consent", shown: view.shown, agree });
      return [
        h("h1", {}, t("consent.title")),
        h("p", {}, t("consent.who", { n: view.people.length })),
        h("ul", { class: "people", "data-testid": "consent-people" }, view.people.map((/** @type {any} */ one) => person(one, session.hosts))),
        h("ul", { class: "steps", "data-testid": "sentences" },
          view.sentences.map((/** @type {any} */ one) => h("li", {}, h("p", {}, t(one.key, one.values))))),
        view.warnings.length > 0 && h("details", { class: "panel" },
          h("summary", {}, t("consent.warnings")),
          view.warnings.map((/** @type {string} */ line) => h("p", { lang: "en" }, line))),
        view.words !== "" && h("section", { class: "panel" },
          h("p", {}, t("consent.words")),
          h("p", { class: "words", lang: "en", translate: "no", "data-testid": "words" }, view.words)),
        h("details", { class: "panel" },
          h("summary", {}, t("consent.details")),
          h("pre", { "data-testid": "details" }, view.details.join("\n"))),
        h("div", { class: "choice" },
          h("button", { "data-testid": "decline", onclick: () => answer(false) }, t("consent.no")),
          h("button", { "data-testid": "agree", onclick: () => answer(true) }, t("consent.yes"))),
        notes(context),
      ];
    },
  };
}

/**
 * @param {any} one
 * @param {boolean} hosts
 */
function person(one, hosts) {
  const standing = one.standing === "introduced" && hosts ? "invited" : one.standing;
  const name = one.standing === "you" ? t("you") : one.name || t("party", { number: one.number });
  return h("li", {},
    h("span", {}, name),
    one.standing !== "you" && h("span", { class: "quiet" }, t(`standing.${standing}`)),
    h("span", { class: "address" }, one.address),
    one.standing !== "introduced" && one.words.length > 0 && h("span", { class: "quiet", lang: "en" }, one.words.join("; ")));
}

/**
 * @param {any} session
 * @returns {import("./screens.js").Screen}
 */
export function input(session) {
  return {
    key: `input ${session.computation} ${JSON.stringify(session.form)}`,
    title: t("input.title"),
    build: (_state, context) => {
      /** @type {Array<{name: string, element: any, sure: any}>} */
      const fields = [];
      return [
        h("h1", {}, t("input.title")),
        h("p", {}, t("input.what")),
        h("form", {
          autocomplete: "off",
          onsubmit: async (/** @type {Event} */ event) => {
            event.preventDefault();
            const values = Object.fromEntries(
              fields.filter((one) => one.element.value !== "").map((one) => [one.name, one.element.value]));
            const sure = fields.filter((one) => one.sure?.checked).map((one) => one.name);
            const refused = await context.send({ intent: "give", values, sure_of: sure });
            // The value has gone where it belongs: the page forgets it.
            if (refused === "") fields.forEach((one) => { one.element.value = ""; });
          },
        },
          session.form.map((/** @type {any} */ field) => privateField(field, fields)),
          h("button", { class: "main", "data-testid": "give" }, t("input.go"))),
        leaveButton(context),
      ];
    },
  };
}

/**
 * @param {any} field
 * @param {Array<any>} fields
 */
function privateField(field, fields) {
  const id = `input-${field.name}`;
  const described = { "aria-describedby": `${id}-help`, "data-testid": id, id, required: !field.optional };
  const element = field.choices.length > 0
    ? h("select", described, field.choices.map((/** @type {string} */ one) => h("option", { value: one }, one)))
    : h("input", { ...described, type: "password", autocomplete: "off", spellcheck: "false" });
  const sure = field.unusual === "" ? null : h("input", { type: "checkbox", "data-testid": `${id}-sure` });
  fields.push({ name: field.name, element, sure });
  return h("div", { class: "field" },
    h("label", { for: id }, field.label), element,
    field.choices.length === 0 && h("button", {
      type: "button", "data-testid": `${id}-show`,
      onclick: (/** @type {any} */ event) => {
        const shown = /** @type {any} */ (element).type === "text";
        /** @type {any} */ (element).type = shown ? "password" : "text";
        event.target.textContent = t(shown ? "input.show" : "input.hide");
      },
    }, t("input.show")),
    h("p", { id: `${id}-help`, class: "quiet" }, [field.expected, field.help].filter(Boolean).join(". ")),
    field.refused !== "" && h("p", { class: "refused" }, field.refused),
    sure !== null && h("label", { class: "panel warn" }, sure, " ", field.unusual, " ", t("input.sure")));
}

/** @returns {import("./screens.js").Screen} */
export function waiting() {
  return {
    key: "waiting",
    title: t("waiting.title"),
    build: (_state, context) => [
      h("h1", {}, t("waiting.title")),
      people(context),
      notes(context),
      leaveButton(context),
    ],
  };
}
