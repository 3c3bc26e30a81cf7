"""What the browser runs: Handlebars templates of Gradio's HTML component, JavaScript and CSS."""

PICTURE = """{{#if value}}<img src="${value}" alt="prediction">{{else}}
<p class="hint">Drop an image to see the prediction here.</p>{{/if}}"""
STATUS = """{{#if value.error}}<p class="error" role="alert">{{value.error}}</p>
{{else}}{{#if value.text}}<p class="done">{{value.text}}</p>{{/if}}{{/if}}"""
# Buttons, not inputs: what is checked then depends on the value alone, however it came about.
LEGEND = """{{#if value}}<div class="head"><b>{{heading}}</b><span>
<button data-all="1">All</button><button data-all="0">None</button></span></div>{{/if}}
{{#each value}}<button class="row" role="checkbox" aria-checked="{{shown}}" data-index="{{@index}}">
<i class="box"></i><i style="background: {{colour}}"></i><span class="name">{{name}}</span>
<span class="bar"><span style="width: {{bar}}%; background: {{colour}}"></span></span>
<span class="amount">{{amount}}</span></button>{{/each}}"""
TOGGLE = """element.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const {all, index} = button.dataset;
  props.value = props.value.map((row, number) => ({
    ...row,
    shown: index === undefined ? all === '1' : row.shown !== (number === Number(index)),
  }));
  trigger('input');
});"""
EXAMPLES = """{{#if value}}<p>Examples</p>{{/if}}<div class="grid">{{#each value}}
<button data-index="{{@index}}" title="{{name}}"><img src="{{url}}" alt="{{name}}"></button>
{{/each}}</div>"""
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

CSS = """
#title h1 { font-size: 1.4rem; font-weight: 600; margin: 0; }
#title p, #examples p, #status .done, #picture .hint { opacity: .75; margin: 0; }
#title { margin-bottom: -.8rem; }
.column { gap: .8rem; }
#examples .grid { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; }
#examples button { border-radius: 6px; overflow: hidden; aspect-ratio: 5 / 4; }
#examples button:hover, #examples button:focus-visible { outline: 2px solid var(--color-accent); }
#examples img { width: 100%; height: 100%; object-fit: cover; }
#picture img { width: 100%; height: 78vh; object-fit: contain; object-position: top; }
#picture .hint { text-align: center; padding: 8rem 1rem; border-radius: 6px;
  border: 1px dashed var(--border-color-primary); }
#status .error { color: var(--error-text-color); background: var(--error-background-fill);
  border: 1px solid var(--error-border-color); border-radius: 6px; padding: .6rem .8rem; }
#legend .head { display: flex; justify-content: space-between; margin-bottom: .3rem; }
#legend .head b { font-weight: 600; }
#legend .head button { margin-left: .8rem; color: var(--link-text-color); }
#legend .head button:hover { text-decoration: underline; }
#legend .row { display: flex; align-items: center; gap: .5rem; padding: .15rem 0; width: 100%;
  text-align: left; }
#legend .row:focus-visible { outline: 2px solid var(--color-accent); }
#legend i { width: 1rem; height: 1rem; border-radius: 3px; flex: none; border: 1px solid #0003; }
#legend .box { border-color: var(--neutral-500); position: relative; }
#legend [aria-checked=true] .box { background: var(--color-accent); border-color: transparent; }
#legend [aria-checked=true] .box::after { content: ''; position: absolute; left: 4.5px; top: 1px;
  width: 5px; height: 9px; border: solid white; border-width: 0 2px 2px 0; rotate: 45deg; }
#legend [aria-checked=false] .name { opacity: .6; }
#legend .name { flex: 1; overflow-wrap: anywhere; }
#legend .bar { width: 30%; height: .5rem; background: var(--background-fill-secondary);
  border-radius: 3px; overflow: hidden; flex: none; }
#legend .bar span { display: block; height: 100%; }
#legend .amount { width: 4.2rem; text-align: right; font-variant-numeric: tabular-nums; }
"""
