{{/* Everywhere but where nobody's Mattermost is, as peers. Pods by a selector, too: not every network takes an ipBlock for them. */}}
{{- define "mattermost-calls-offloader.anywhere" -}}
{{- $four := list -}}
{{- $six := list -}}
{{- range .Values.networkPolicy.jobs.blockedNetworks -}}
{{- if contains ":" . }}{{ $six = append $six . }}{{ else }}{{ $four = append $four . }}{{ end -}}
{{- end -}}
- namespaceSelector: {}
- ipBlock:
    cidr: 0.0.0.0/0
    {{- with $four }}
    except: {{ toJson . }}
    {{- end }}
- ipBlock:
    cidr: ::/0
    {{- with $six }}
    except: {{ toJson . }}
    {{- end }}
{{- end -}}

{{/* One rule, of a list: root, what it is for (ports, to), protocols. Nothing without ports. */}}
{{- define "mattermost-calls-offloader.egressTo" -}}
{{- $root := index . 0 -}}
{{- $what := index . 1 -}}
{{- $protocols := index . 2 -}}
{{- with $what.ports }}
- ports:
    {{- range $port := . }}
    {{- range $protocols }}
    - {port: {{ $port }}, protocol: {{ . }}}
    {{- end }}
    {{- end }}
  to:
    {{- $what.to | empty | ternary (include "mattermost-calls-offloader.anywhere" $root) (toYaml $what.to) | nindent 4 }}
{{- end }}
{{- end -}}

{{/* What jobs connect to, as egress rules, wherever they run. */}}
{{- define "mattermost-calls-offloader.jobEgress" -}}
{{- $jobs := .Values.networkPolicy.jobs -}}
- ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- include "mattermost-calls-offloader.egressTo" (list . $jobs.site (list "TCP")) }}
{{- include "mattermost-calls-offloader.egressTo" (list . $jobs.sfu (list "UDP" "TCP")) }}
{{- include "mattermost-calls-offloader.egressTo" (list . $jobs.turn (list "UDP" "TCP")) }}
{{- include "mattermost-calls-offloader.egressTo" (list . $jobs.proxy (list "TCP")) }}
{{- include "mattermost-calls-offloader.egressTo" (list . $jobs.speech (list "TCP")) }}
{{- if .Values.jobs.copies.url }}
{{- include "mattermost-calls-offloader.egressTo" (list . $jobs.copies (list "TCP")) }}
{{- end }}
{{- with $jobs.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}
