import KokoroCoreML
import KokoroSayModel
import SwiftUI

/// Says phonemes with the bundle among the app's resources.
@main
@MainActor
struct KokoroSayApp: App {
    @State private var model = SpeechModel(player: EnginePlayer()) {
        try KokoroSynthesizer(bundle: BundlePlace.find(in: Bundle.main.resourceURL))
    }

    var body: some Scene {
        WindowGroup {
            SpeechView(model: model)
        }
    }
}
