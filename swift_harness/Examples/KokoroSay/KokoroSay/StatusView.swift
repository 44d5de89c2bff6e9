import KokoroSayModel
import SwiftUI

/// What goes on, and the button that begins or ends it.
@MainActor
struct StatusView: View {
    let model: SpeechModel

    var body: some View {
        switch model.state {
        case .idle:
            play
        case .preparing:
            HStack {
                ProgressView()
                Text(model.isReady ? "The first sound is being computed" : "The bundle is opened")
                Spacer()
                if model.isReady { stop }
            }
        case .speaking:
            ProgressView(value: min(model.heard, model.made), total: max(model.made, 0.001)) {
                Text("\(seconds(model.heard)) of \(seconds(model.made)) s made so far")
                    .monospacedDigit()
            }
            stop
        case .failed(let reason):
            Label(reason, systemImage: "exclamationmark.triangle")
                .foregroundStyle(.red)
                .textSelection(.enabled)
            if model.isReady {
                play
            } else {
                Button("Look for the bundle again") { Task { await model.load() } }
            }
        }
    }

    private var play: some View {
        Button("Play", systemImage: "play.fill") { model.play() }
            .keyboardShortcut(.return, modifiers: .command)
            .disabled(!model.canPlay)
    }

    private var stop: some View {
        Button("Stop", systemImage: "stop.fill") { model.stop() }
            .keyboardShortcut(".", modifiers: .command)
    }

    private func seconds(_ value: Double) -> String {
        value.formatted(.number.precision(.fractionLength(1)))
    }
}
