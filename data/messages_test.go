package data

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/peftkit/peftkit/tokenizer/chat/jinja"
	"github.com/stretchr/testify/require"
)

// toolChat is a template in the style of Qwen's: tools, calls and answers of tools,
// and a thought that is shown in the last turn alone.
const toolChat = "{% if tools %}{{ '<|im_start|>tools ' + (tools | tojson) + '<|im_end|>' }}{% endif %}" +
	"{% set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}" +
	"{% for m in messages %}{{ '<|im_start|>' + m.role + ' ' }}" +
	"{% if m.role == 'assistant' %}{% if m.reasoning_content and loop.index0 > ns.last %}{{ '(' + m.reasoning_content + ')' }}{% endif %}" +
	"{{ m.content or '' }}{% for c in m.tool_calls or [] %}{{ '!' + c.function.name + (c.function.arguments | tojson) }}{% endfor %}" +
	"{% else %}{{ m.content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant ' }}{% endif %}"

// mask loads one file and shows its examples.
func mask(t *testing.T, content, template string, o Options) ([]string, *Dataset, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
	tok := toy{template: template}
	o.Tokenizer = tok
	d, err := Load(path, o)
	if err != nil {
		return nil, nil, err
	}
	var out []string
	for i := range d.Examples {
		out = append(out, tok.show(&d.Examples[i]))
	}
	return out, d, nil
}

func TestWhatARecordSaysIsTrained(t *testing.T) {
	const u, a, end = "<|im_start|>user ", "<|im_start|>assistant ", "<|im_end|>"
	for _, c := range []struct {
		name, content string
		o             Options
		want          []string
	}{
		{"weight 0", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","weight":0},{"role":"user","content":"V"},{"role":"assistant","content":"B","weight":1}]}`, Options{},
			[]string{u + "U" + end + a + "A" + end + u + "V" + end + a + "[B" + end + "]"}},
		{"train false", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","train":false},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}`, Options{},
			[]string{u + "U" + end + a + "A" + end + u + "V" + end + a + "[B" + end + "]"}},
		{"train_on_turn and masked", `{"messages":[{"role":"user","content":"U","masked":true},{"role":"assistant","content":"A","train_on_turn":true},{"role":"user","content":"V"},{"role":"assistant","content":"B","masked":true}]}`, Options{},
			[]string{u + "U" + end + a + "[A" + end + "]" + u + "V" + end + a + "B" + end}},
		{"weight 0 under all", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","weight":0},{"role":"user","content":"V"}]}`, Options{TrainOn: Everything},
			[]string{"<|im_start|>[user U" + end + "]" + a + "A" + end + "[" + u + "V" + end + "]"}},
		{"weight 0 under all, where turns of the past look different", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","thinking":"T","weight":0},{"role":"user","content":"V"},{"role":"assistant","content":"B","thinking":"S"}]}`, Options{TrainOn: Everything},
			[]string{"<|im_start|>[user U" + end + "]" + a + "A" + end + "[" + u + "V" + end + a + "(S)B" + end + "]"}},
		{"last answer with weight 0", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"},{"role":"user","content":"V"},{"role":"assistant","content":"B","weight":0.5}]}`, Options{TrainOn: LastAnswer},
			[]string{u + "U" + end + a + "A" + end + u + "V" + end + a + "[B" + end + "]"}},
		{"thoughts of every turn", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","thinking":"T"},{"role":"user","content":"V"},{"role":"assistant","content":"B","reasoning_content":"S"}]}`, Options{},
			[]string{u + "U" + end + a + "[(T)A" + end + "]", u + "U" + end + a + "A" + end + u + "V" + end + a + "[(S)B" + end + "]"}},
		{"thought of the last turn", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","thinking":"T"},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}`, Options{TrainOn: LastAnswer},
			[]string{u + "U" + end + a + "A" + end + u + "V" + end + a + "[B" + end + "]"}},
		{"calls of tools", `{"tools":[{"z":1,"a":2}],"messages":[{"role":"user","content":"U"},{"role":"assistant","content":null,"tool_calls":[{"type":"function","function":{"name":"f","arguments":{"y":1,"b":"é"}}}]},{"role":"tool","content":"R"},{"role":"assistant","content":"A"}]}`, Options{},
			[]string{`<|im_start|>tools [{"z": 1, "a": 2}]` + end + u + "U" + end + a + `[!f{"y": 1, "b": "` + "é" + `"}` + end + "]<|im_start|>tool R" + end + a + "[A" + end + "]"}},
		{"arguments as a string", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]}`, Options{},
			[]string{u + "U" + end + a + `[!f"{}"` + end + "]"}},
		{"tools as JSON text", `{"tools":"[{\"a\": 1}]","prompt":"U","completion":"A"}`, Options{},
			[]string{`<|im_start|>tools [{"a": 1}]` + end + u + "U" + end + a + "[A" + end + "]"}},
		{"ShareGPT with a call", `{"conversations":[{"from":"human","value":"U"},{"from":"function_call","value":"{\"name\":\"f\",\"arguments\":{}}"},{"from":"observation","value":"R"},{"from":"gpt","value":"A"}]}`, Options{},
			[]string{u + "U" + end + a + "[!f{}" + end + "]<|im_start|>tool R" + end + a + "[A" + end + "]"}},
		{"system column", `{"system":"S","messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`, Options{},
			[]string{"<|im_start|>system S" + end + u + "U" + end + a + "[A" + end + "]"}},
		{"system column and message", `{"system":"S","messages":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`, Options{},
			[]string{"<|im_start|>system S" + end + u + "U" + end + a + "[A" + end + "]"}},
		{"system of a prompt", `{"system":"S","prompt":"U","completion":"A"}`, Options{},
			[]string{"<|im_start|>system S" + end + u + "U" + end + a + "[A" + end + "]"}},
		{"history", `{"instruction":"V","output":"B","system":"S","history":[["U","A"]]}`, Options{},
			[]string{"<|im_start|>system S" + end + u + "U" + end + a + "[A" + end + "]" + u + "V" + end + a + "[B" + end + "]"}},
		{"history of messages before messages", `{"messages":[{"role":"user","content":"V"},{"role":"assistant","content":"B"}],"history":[{"role":"system","content":"S"},{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`, Options{},
			[]string{"<|im_start|>system S" + end + u + "U" + end + a + "[A" + end + "]" + u + "V" + end + a + "[B" + end + "]"}},
		{"messages as JSON text", `{"messages":"[{\"role\":\"user\",\"content\":\"U\"},{\"role\":\"assistant\",\"content\":\"A\"}]"}`, Options{},
			[]string{u + "U" + end + a + "[A" + end + "]"}},
		{"names of roles", `{"messages":[{"role":"developer","content":"S"},{"role":"Human","content":"U"},{"role":"model","content":"A"},{"role":"prompter","content":"V"},{"role":"GPT","content":"B"}]}`, Options{},
			[]string{"<|im_start|>system S" + end + u + "U" + end + a + "[A" + end + "]" + u + "V" + end + a + "[B" + end + "]"}},
		{"a prompt that is a JSON list", `{"prompt":"[1, 2]","completion":"[3]"}`, Options{}, []string{"<s>[1, 2][[3]</s>]"}},
		{"good and bad answers", `{"prompt":"p","completion":"a","label":true}` + "\n" + `{"prompt":"p","completion":"b","label":false}`, Options{}, []string{"<s>p[a</s>]"}},
		{"a label that is no verdict", `{"prompt":"p","completion":"a","label":1}` + "\n" + `{"prompt":"p","completion":"b","label":2}`, Options{}, []string{"<s>p[a</s>]", "<s>p[b</s>]"}},
		{"a class of plain texts", `{"text":"a","label":1}` + "\n" + `{"text":"b","label":0}`, Options{}, []string{"<s>[a</s>]", "<s>[b</s>]"}},
		{"a label that is read", `{"prompt":"p","label":"true"}` + "\n" + `{"prompt":"q","label":"false"}`, Options{Columns: Columns{"completion": "label"}}, []string{"<s>p[true</s>]", "<s>q[false</s>]"}},
		{"the better answers", `{"prompt":"p","chosen":"a","rejected":"b"}`, Options{Columns: Columns{"completion": "chosen"}}, []string{"<s>p[a</s>]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := mask(t, c.content, toolChat, c.o)
			require.NoError(t, err)
			for i, w := range c.want {
				c.want[i] = latin(w)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// A table holds messages, tools and histories as JSON text in quotes.
func TestMessagesInTables(t *testing.T) {
	const u, a, end = "<|im_start|>user ", "<|im_start|>assistant ", "<|im_end|>"
	for file, content := range map[string]string{
		"a.csv": "id,messages,tools\r\n" +
			`1,"[{""role"": ""user"", ""content"": ""say \""U\"",\nplease""}, {""role"": ""assistant"", ""content"": ""A"", ""weight"": 0}, {""role"": ""user"", ""content"": ""V""}, {""role"": ""assistant"", ""content"": ""B""}]","[{""z"": 1, ""a"": 2}]"` + "\r\n",
		"a.tsv": "id\tmessages\ttools\n" +
			`1` + "\t" + `[{"role": "user", "content": "say \"U\",\nplease"}, {"role": "assistant", "content": "A", "weight": 0}, {"role": "user", "content": "V"}, {"role": "assistant", "content": "B"}]` + "\t" + `[{"z": 1, "a": 2}]` + "\n",
	} {
		t.Run(file, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), file)
			require.NoError(t, os.WriteFile(path, []byte(content), 0o666))
			tok := toy{template: toolChat}
			d, err := Load(path, Options{Tokenizer: tok})
			require.NoError(t, err)
			require.Len(t, d.Examples, 1)
			require.Equal(t, `<|im_start|>tools [{"z": 1, "a": 2}]`+end+u+"say \"U\",\nplease"+end+a+"A"+end+u+"V"+end+a+"[B"+end+"]", tok.show(&d.Examples[0]))
			require.Equal(t, []string{"id"}, d.Stats.Unused)
		})
	}
	path := filepath.Join(t.TempDir(), "a.csv")
	require.NoError(t, os.WriteFile(path, []byte("messages\n\"[{\"\"role\"\": \"\"user\"\"\"\n"), 0o666))
	_, err := Load(path, Options{Tokenizer: toy{template: toolChat}})
	require.ErrorIs(t, err, ErrFields)
	require.ErrorContains(t, err, `a.csv:2: wrong fields: "messages" is a string that is no JSON (unexpected EOF); expected a list of messages`)
}

// latin writes bytes as toy shows them.
func latin(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func TestWhatARecordSaysIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, content, template string
		kind                    error
		want                    []string
	}{
		{"weight above 1", `{"messages":[{"role":"assistant","content":"A","weight":2}]}`, toolChat, ErrFields, []string{"a.jsonl:1", "messages[0].weight is 2", "from 0 (not trained) to 1"}},
		{"train that is no truth", `{"messages":[{"role":"assistant","content":"A","train":"no"}]}`, toolChat, ErrFields, []string{`messages[0].train is "no"`, "true or false"}},
		{"contradiction", `{"messages":[{"role":"assistant","content":"A","train":true,"masked":true}]}`, toolChat, ErrFields, []string{"train and masked contradict each other"}},
		{"a trained question", `{"messages":[{"role":"user","content":"A","train":true}]}`, toolChat, ErrFields, []string{"messages[0] is to be trained (train) and not of the assistant"}},
		{"train_detail", `{"messages":[{"role":"assistant","content":"A","train_detail":[]}]}`, toolChat, ErrFields, []string{"train_detail", "parts of a message cannot be left out"}},
		{"function_call", `{"messages":[{"role":"assistant","content":"A","function_call":{"name":"f"}}]}`, toolChat, ErrFields, []string{"function_call", "tool_calls"}},
		{"tools without a place", `{"tools":[{"a":1}],"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`, chatML, ErrTemplate, []string{"no place for the tools of the record"}},
		{"calls without a place", `{"messages":[{"role":"user","content":"U"},{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}`, chatML, ErrTemplate, []string{"no place for the tool calls of message 1"}},
		{"an answer of a tool without a place", `{"messages":[{"role":"tool","content":"U"},{"role":"assistant","content":"A"}]}`, chatML, ErrTemplate, []string{"no place for message 0, the answer of a tool"}},
		{"unknown role", `{"messages":[{"role":"user","content":"U"},{"role":"narrator","content":"A"}]}`, chatML, ErrFields, []string{"a.jsonl:1", `message 1 has the role "narrator"`}},
		{"two system messages", `{"system":"S","messages":[{"role":"system","content":"T"},{"role":"assistant","content":"A"}]}`, chatML, ErrFields, []string{`the system column says "S", the first message "T"`}},
		{"a message that the template drops", `{"messages":[{"role":"system","content":"secret"},{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`,
			"{% for m in messages if m.role != 'system' %}{{ m.role + m.content }}{% endfor %}", ErrTemplate, []string{"the text of message 0 (system) is left out"}},
		{"preferences", `{"prompt":"p","chosen":"a","rejected":"b"}`, chatML, ErrFields, []string{"preference data", "--map completion=chosen"}},
		{"preferences in messages", `{"chosen":[{"role":"user","content":"U"}],"rejected":[{"role":"user","content":"U"}]}`, chatML, ErrFields, []string{"preference data", "--map messages=chosen"}},
		{"preferences beside a question", `{"question":"p","chosen":"a","rejected":"b"}`, chatML, ErrFields, []string{"--map prompt=question --map completion=chosen"}},
		{"bad answers alone", `{"prompt":"p","completion":"a","label":false}`, chatML, ErrEmpty, []string{"all 1 records are bad answers"}},
		{"a call that is no JSON", `{"conversations":[{"from":"function_call","value":"f()"}]}`, toolChat, ErrFields, []string{"conversations[0]: the function call is \"f()\""}},
		{"a field twice", `{"prompt":"p","completion":"a","prompt":"q"}`, chatML, ErrSyntax, []string{`the field "prompt" twice`}},
		{"history of three", `{"messages":[{"role":"user","content":"U"}],"history":[["a","b","c"]]}`, chatML, ErrFields, []string{"history[0] has 3 items"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := mask(t, c.content, c.template, Options{})
			require.ErrorIs(t, err, c.kind)
			for _, w := range c.want {
				require.ErrorContains(t, err, w)
			}
		})
	}
}

func TestUnusedFieldsAreListed(t *testing.T) {
	_, d, err := mask(t, `{"id":1,"tools":[{"a":1}],"chat_template_kwargs":{"x":1},"messages":[{"role":"user","content":[{"type":"text","text":"U","cache":1}],"name":"n"},`+
		`{"role":"assistant","reasoning_content":"T","content":"A","ts":3,"note":"","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":{"k":1}}}]}]}`, toolChat, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"id", "chat_template_kwargs.x", "messages[].content[].cache", "messages[].name", "messages[].tool_calls[].id", "messages[].tool_calls[].type", "messages[].ts"}, d.Stats.Unused)
	require.Contains(t, d.Stats.Notes()[0], "not used: id, chat_template_kwargs.x")

	got, d, err := mask(t, `{"prompt":"p","completion":"c","history":"of a town","documents":[{"text":"t"}]}`, toolChat, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"<s>p[c</s>]"}, got)
	require.Equal(t, []string{"documents", "history"}, d.Stats.Unused)

	_, d, err = mask(t, `{"messages":[{"role":"user","content":"U"},{"role":"assistant","thinking":"T","content":"A"}]}`, chatML, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"messages[].thinking"}, d.Stats.Unused)
}

func TestWeightsOfTokens(t *testing.T) {
	_, d, err := mask(t, `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","weight":0.25},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}`, chatML, Options{})
	require.NoError(t, err)
	ex := &d.Examples[0]
	for i, l := range ex.Labels {
		if l == 'A' {
			require.Equal(t, float32(0.25), ex.Weights[i])
		}
		if l == 'B' {
			require.Equal(t, float32(1), ex.Weights[i])
		}
	}
	b := d.Batch([]int{0})
	require.Len(t, b.Weights, len(b.Labels))
	for i, l := range b.Labels { // shifted alike
		if l == 'A' {
			require.Equal(t, float32(0.25), b.Weights[i])
		}
	}
	require.Equal(t, 4, Labelled(b))
	require.Equal(t, 2.5, Weight(b))

	_, plain, err := mask(t, `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","weight":1},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}`, chatML, Options{})
	require.NoError(t, err)
	require.Nil(t, plain.Examples[0].Weights)
	require.NotEqual(t, d.Hash(), plain.Hash())
	two := &Dataset{Examples: append(plain.Examples, d.Examples...)}
	require.Equal(t, float32(1), two.Batch([]int{0, 1}).Weights[0])
	require.Nil(t, two.Batch([]int{0}).Weights)
}

func TestRecordsStayTogether(t *testing.T) {
	const record = `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A","thinking":"T"},{"role":"user","content":"V"},{"role":"assistant","content":"B"}]}` + "\n"
	got, d, err := mask(t, record+record+record, toolChat, Options{})
	require.NoError(t, err)
	require.Len(t, got, 6)
	require.Equal(t, 3, d.Stats.Apart)
	require.Equal(t, 3, d.RecordCount())
	train, valid, err := d.Split(0.34, 1)
	require.NoError(t, err)
	require.Len(t, train.Examples, 4)
	require.Len(t, valid.Examples, 2)
	require.Equal(t, valid.Examples[0].Line, valid.Examples[1].Line)
	d.First(2)
	require.Len(t, d.Examples, 4)
}

// A model may have a template of its own for records with tools.
func TestToolTemplate(t *testing.T) {
	const body = "{% for m in messages %}{{ m.role + ':' + m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
	records := []Record{}
	for _, tools := range []*jinja.List{nil, jinja.NewList("f"), nil} {
		records = append(records, Record{Kind: Chat, Messages: []Message{{Role: "user", Content: "U"}, {Role: "assistant", Content: "A"}}, Tools: tools})
	}
	tok := toy{template: body, tools: "{{ tools | tojson }}" + body}
	show := func(o Options) (out []string) {
		o.Tokenizer = tok
		d, err := New(records, o)
		require.NoError(t, err)
		for i := range d.Examples {
			out = append(out, tok.show(&d.Examples[i]))
		}
		return out
	}
	const chat = "user:U</s>assistant:[A</s>]"
	require.Equal(t, []string{chat, `["f"]` + chat, chat}, show(Options{}))
	const own = "{{ tools | length if tools }}!" + body
	require.Equal(t, []string{"!" + chat, "1!" + chat, "!" + chat}, show(Options{ChatTemplate: own}), "one that is asked for serves all")
}

// What follows a prompt may change how its end is tokenized; what lies before the answer
// is not trained all the same.
func TestTokensThatChangeBeforeAnswers(t *testing.T) {
	const tmpl = "{% for m in messages %}{{ m.role }}\n\n{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}assistant\n\n{% endif %}"
	got, d, err := mask(t, `{"messages":[{"role":"user","content":"U"},{"role":"assistant","content":"A"}]}`, tmpl, Options{})
	require.NoError(t, err)
	require.Equal(t, []string{"user\n\nU</s>assistant\n\n[A</s>]"}, got)
	require.Zero(t, d.Stats.Merged, "no token spans the border")
}

// The border of a prompt and an answer may lie in a token; only a prompt that ends in a
// space is to blame for it.
func TestSpacesBeforeAnswers(t *testing.T) {
	_, d, err := mask(t, `{"prompt":"is ","completion":"good"}`, "", Options{})
	require.NoError(t, err)
	require.Equal(t, []int{1, 1}, []int{d.Stats.Merged, d.Stats.Spaced})
	require.Contains(t, d.Stats.Notes()[0], "do not end prompts with a space")
	_, d, err = mask(t, `{"prompt":"x<|im_st","completion":"art|>"}`, "", Options{})
	require.NoError(t, err)
	require.Equal(t, []int{1, 0}, []int{d.Stats.Merged, d.Stats.Spaced})
	require.NotContains(t, d.Stats.Notes()[0], "space")
}
