import KokoroSayModel
import SwiftUI

/// The app's only window.
@MainActor
struct SpeechView: View {
    @Bindable var model: SpeechModel

    var body: some View {
        Form {
            Section("Phonemes") {
                TextField("Phonemes", text: $model.phonemes, axis: .vertical)
                    .labelsHidden()
                    .lineLimit(3...8)
                    .autocorrectionDisabled()
                Text("The network takes phonemes, not letters. These are as misaki writes them:")
                    .font(.footnote)
                    .foregroundStyle(.secondary)
                Menu("Example sentences") {
                    ForEach(ExampleSentence.all) { example in
                        Button(example.text) { model.phonemes = example.phonemes }
                    }
                }
            }
            Section("Voice") {
                Picker("Voice", selection: $model.voice) {
                    ForEach(model.voices, id: \.self) { voice in Text(voice).tag(voice) }
                }
                LabeledContent(
                    "Speed \(model.speed, format: .number.precision(.fractionLength(1)))"
                ) {
                    Slider(value: $model.speed, in: SpeechModel.speeds, step: 0.1)
                        .accessibilityLabel("Speed")
                }
            }
            .disabled(!model.isReady)
            Section {
                StatusView(model: model)
            }
        }
        .formStyle(.grouped)
        .frame(minWidth: 320, minHeight: 420)
        .task { await model.load() }
    }
}
