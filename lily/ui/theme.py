"""How the page looks: a Gradio theme with system fonts, one accent colour, light and dark.

No font, script or picture comes from another host, so the page opens with the network cut off.
"""

from __future__ import annotations

import gradio as gr

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif")
MONO_FONTS = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace")

# The widgets' own colours, and the few places where Gradio leaves the page untidy.
CSS = """
:root { --lily-accent: #0f766e; --lily-accent-soft: #99f6e4; --lily-on-accent: #ffffff;
  --lily-error: #b91c1c; --lily-control: #64748b; }
:root .dark, :root.dark { --lily-accent: #2dd4bf; --lily-accent-soft: #115e59;
  --lily-on-accent: #042f2e; --lily-error: #fca5a5; --lily-control: #94a3b8; }
/* Gradio's own accent and the controls of its players are too pale to read on white. */
.gradio-container { --color-accent: var(--lily-accent); --slider-color: var(--lily-accent); }
.gradio-container button[role="tab"].selected { color: var(--lily-accent); }
#recording, #reference, #take { --neutral-400: var(--lily-control); }
.gradio-container input[type="range"]::-webkit-slider-thumb { background: var(--lily-accent); }
.gradio-container input[type="range"]::-moz-range-thumb { background: var(--lily-accent); }
.gradio-container :is(button, input, textarea, a, summary, [role="tab"]):focus-visible {
  outline: 2px solid var(--lily-accent); outline-offset: 2px; }
#recording .upload-container .wrap { min-height: 104px; }
#reference { min-height: 96px; height: auto !important; }
#reference .upload-container .wrap { min-height: 88px; flex-direction: row; gap: 8px; }
#question, #question .tabitem > .column { gap: 10px; }
#tasks { gap: 6px; }
#question .tabitem { padding: 0; }
#examples { gap: 6px; }
#examples button { padding: 4px 6px; min-height: 32px; }
#compare-note { padding: 8px 12px; border-left: 3px solid var(--lily-accent); }
/* The tools of a spectrogram lie where it has nothing to read: below its colour bar. */
:is(#takes, #difference, #take) .icon-button-wrapper { top: auto; bottom: 2px; }
:is(#takes, #take) span.icon { color: var(--lily-on-accent); }
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto; }
#title h1 { margin-bottom: 2px; }
#title p { margin-top: 0; color: var(--body-text-color-subdued); }
#notice { padding: 10px 14px; border-left: 4px solid var(--lily-accent);
  background: var(--background-fill-secondary); overflow-wrap: anywhere; }
label:has(input[type="radio"]:disabled) { opacity: 0.5; cursor: not-allowed; }
#command textarea { font-family: var(--font-mono); font-size: var(--text-sm); }
.take h3 { margin: 0; }
/* The panel stays legible while its visitor queues, with the position in its corner; what went
   wrong it says itself, where Gradio's pill would lie over the sentence. */
#chunk-map .pending { opacity: 1; }
#chunk-map > [data-testid="status-tracker"] { overflow: visible; }
#chunk-map > [data-testid="status-tracker"] .progress-text { transform: none; padding: 10px 12px;
  font-family: var(--font); color: var(--body-text-color-subdued); }
#chunk-map > [data-testid="status-tracker"] .error { display: none; }
#chunk-map > [data-testid="status-tracker"] .clear-status { display: none; }
footer .divider { display: none !important; }
@media (max-width: 640px) {
  .gradio-container { padding: 8px !important; }
  #examples button, #files button { min-height: 44px; }
  #reference .upload-container .wrap { font-size: var(--text-sm); }
  .gradio-container .icon-button-wrapper button { min-width: 28px; min-height: 28px; }
}
@media (pointer: coarse) {
  .gradio-container input[type="range"] { min-height: 24px; }
}
"""


def theme() -> gr.themes.Base:
    """The theme for ``launch``."""
    return gr.themes.Default(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="slate",
        font=FONTS,
        font_mono=MONO_FONTS,
    ).set(
        # Slate 400, the default, is too pale to read on white (contrast 2.6 to 1).
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )
