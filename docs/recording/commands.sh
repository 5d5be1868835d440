# A question: one JSON object comes back, and a session to go on with.
ollama-prompt --prompt "Name a river in Peru" > answer.json
jq -r '.response, .session_id' answer.json
# Go on with it, and bring a file along.
ollama-prompt --continue --prompt "Which of @./rivers.txt is the longest?" --output text
# A failure says what to do. What was asked is kept, and can be asked again.
OLLAMA_HOST=127.0.0.1:9 ollama-prompt --continue --prompt "By how much?"
ollama-prompt session retry "$(jq -r .session_id answer.json)" --output text
ollama-prompt session list --output table
