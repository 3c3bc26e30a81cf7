"""What the browser runs: Handlebars templates of Gradio's HTML component, JavaScript and CSS."""

PICTURE = """{{#if value}}<img src="${value}" alt="prediction">{{else}}
<p class="hint">Drop an image to see the prediction here.</p>{{/if}}"""
STATUS = """{{#if value.error}}<p class="error" role="alert">{{value.error}}</p>
{{else}}{{#if value.text}}<p class="done">{{value.text}}</p>{{/if}}{{/if}}"""
LEGEND = """{{#if value}}<div class="head"><b>{{heading}}</b><span>
<button data-all="1">All</button><button data-all="">None</button></span></div>{{/if}}
{{#each value}}<label><input type="checkbox" data-index="{{@index}}" {{#if shown}}checked{{/if}}>
<i style="background: {{colour}}"></i><span class="name">{{name}}</span>
<span class="bar"><span style="width: {{bar}}%; background: {{colour}}"></span></span>
<span class="amount">{{amount}}</span></label>{{/each}}"""
TOGGLE = """
const show = (chosen) => {
  props.value = props.value.map((row, index) => ({...row, shown: chosen(row, index)}));
  trigger('input');
};
element.addEventListener('change', (event) => {
  const box = event.target;
  if (box.dataset.index !== undefined)
    show((row, index) => index == box.dataset.index ? box.checked : row.shown);
});
element.addEventListener('click', (event) => {
  const all = event.target.dataset.all;
  if (all !== undefined) show(() => all === '1');
});"""
EXAMPLES = """{{#if value}}<p>Examples</p>{{/if}}{{#each value}}
<button data-index="{{@index}}" title="{{name}}"><img src="{{url}}" alt="{{name}}"></button>
{{/each}}"""
CHOOSE = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) trigger('select', {index: Number(button.dataset.index)});
});"""
SAVE = """async (file) => {
  if (!file) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await (await fetch(file.url)).blob());
  link.download = file.name;
  link.click();
  URL.revokeObjectURL(link.href);
}"""

CSS = """#title h1 { font-size: 1.4rem; font-weight: 600; margin: 0; }
#title p, #examples p { color: var(--body-text-color-subdued); margin: 0 0 .4rem; }
#picture { min-height: 240px; }
#picture img { display: block; max-width: 100%; max-height: 82vh; margin: 0 auto; border-radius: 6px; }
#picture .hint { color: var(--body-text-color-subdued); text-align: center; padding: 6rem 1rem;
  border: 1px dashed var(--border-color-primary); border-radius: 6px; }
#status .done { color: var(--body-text-color-subdued); margin: 0; }
#status .error { color: var(--error-text-color); background: var(--error-background-fill);
  border: 1px solid var(--error-border-color); border-radius: 6px; padding: .6rem .8rem; margin: 0; }
#examples button { display: inline-block; margin: 0 6px 6px 0; border-radius: 6px; overflow: hidden; }
#examples img { display: block; height: 56px; margin: 0; }
#legend .head { display: flex; justify-content: space-between; margin-bottom: .3rem; }
#legend .head button { margin-left: .8rem; text-decoration: underline; }
#legend label { display: flex; align-items: center; gap: .5rem; padding: .15rem 0; cursor: pointer; }
#legend i { width: 1rem; height: 1rem; border-radius: 3px; flex: none; border: 1px solid #0003; }
#legend .name { flex: 1; overflow-wrap: anywhere; }
#legend .bar { width: 30%; height: .5rem; background: var(--background-fill-secondary);
  border-radius: 3px; overflow: hidden; flex: none; }
#legend .bar span { display: block; height: 100%; }
#legend .amount { width: 4.2rem; text-align: right; font-variant-numeric: tabular-nums; }
"""
